//! A stand-in for NVIDIA's management library, `libnvidia-ml.so.1`.
//!
//! ```text
//! file ─▶ parse ─▶ scenario ─▶ play (now) ─▶ target (which device) ─▶ export (C functions)
//! ```
//! It has the C functions of the real one, and answers as a scenario's file says, see the README of
//! `orb8-standins`. With `--cfg old` it lacks what came after the driver's version 470.

mod beside;
mod curve;
mod event_set;
mod export;
mod field;
mod gpm;
mod parse;
mod play;
mod samples;
mod scenario;
mod status;
mod target;
mod types;
