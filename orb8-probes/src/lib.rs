//! What the programs of every object share: access to packets, atomic addition, clocks.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod kernel;
pub mod skb;
