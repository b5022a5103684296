//! The book holds together: its commands are taken, its links lead somewhere, what it names exists,
//! and what is generated of it is up to date. It tells of the engine's flags too.

mod alerts;
mod commands;
mod links;
mod names;
mod pages;
mod reference;
