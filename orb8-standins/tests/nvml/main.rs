//! NVML's stand-in as its users see it: through nvml-wrapper, which was made for the real one.

mod abi;
mod node;
mod scenarios;
mod trouble;
