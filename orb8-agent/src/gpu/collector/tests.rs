use super::core::*;
use super::*;

mod given;
mod node;
mod shell;
mod steps;
