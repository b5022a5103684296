//! Where in a function a probe is cheapest.
//!
//! The kernel does some instructions itself when a probe is hit (a push, a jump); any other it has to
//! step the thread over, which takes thirty times as long in a virtual machine. Functions of CUDA and
//! NCCL begin with a compare or a landing mark that has to be stepped over, and then with a push or a
//! jump: the probe goes there. What is skipped changes neither an argument nor the stack pointer nor
//! the return address.

/// Bytes of a function that [`decode`] looks at.
pub(super) const LOOKED_AT: usize = 32;

/// Which instructions these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86,
    Arm64,
}

/// What the kernel does with the instruction under a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// It does it itself.
    Emulated,
    /// A nop that newer kernels do themselves, or make a call of.
    Nop,
    /// It steps the thread over it.
    Stepped,
}

/// Where a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prologue {
    /// Bytes from the function's beginning.
    pub skip: u64,
    /// What it costs there.
    pub step: Step,
}

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const NOP5: &[u8] = &[0x0f, 0x1f, 0x44, 0x00, 0x00];

/// Finds the cheapest place in a function that begins with these bytes.
pub(super) fn decode(machine: Machine, bytes: &[u8]) -> Prologue {
    match machine {
        Machine::X86 => decode_x86(bytes),
        Machine::Arm64 => decode_arm64(bytes),
    }
}

/// Returns where the function jumps to, from its beginning, where that is all that it does.
pub(super) fn forward(machine: Machine, bytes: &[u8]) -> Option<i64> {
    match machine {
        Machine::X86 => {
            let (skipped, bytes) = without_mark(bytes);
            let (length, target) = match bytes {
                [0xe9, a, b, c, d, ..] => (5, i64::from(i32::from_le_bytes([*a, *b, *c, *d]))),
                [0xeb, near, ..] => (2, i64::from(near.cast_signed())),
                _ => return None,
            };
            Some(i64::try_from(skipped).ok()? + length + target)
        }
        Machine::Arm64 => {
            let at = usize::from(word(bytes, 0).is_some_and(is_landing_mark));
            let jump = word(bytes, at).filter(|word| word >> 26 == 0b00_0101)?;
            // 26 bits with a sign, in words.
            let words = i64::from((jump << 6).cast_signed() >> 6);
            Some(i64::try_from(at).ok()? * 4 + words * 4)
        }
    }
}

fn decode_x86(bytes: &[u8]) -> Prologue {
    let (skipped, rest) = without_mark(bytes);
    for skip in [Some(0), compare(rest)].into_iter().flatten() {
        match step_x86(rest.get(skip..).unwrap_or_default()) {
            // Only a jump may follow a compare: something else would be left out of the condition.
            Step::Stepped => {}
            step => return Prologue { skip: (skipped + skip) as u64, step },
        }
    }
    Prologue { skip: 0, step: Step::Stepped }
}

/// Splits off `endbr64`, and says how long it is.
fn without_mark(bytes: &[u8]) -> (usize, &[u8]) {
    bytes.strip_prefix(ENDBR64).map_or((0, bytes), |rest| (ENDBR64.len(), rest))
}

/// Bytes of a compare of a variable (`disp32(%rip)`) with a constant, before a conditional jump.
fn compare(bytes: &[u8]) -> Option<usize> {
    let (prefix, rest) = bytes.strip_prefix(&[0x48]).map_or((0, bytes), |rest| (1, rest));
    let length = match rest {
        [0x81, 0x3d, ..] => 10,
        [0x80 | 0x83, 0x3d, ..] => 7,
        _ => return None,
    };
    let next = rest.get(length..)?;
    let is_conditional = matches!(next, [0x70..=0x7f, _, ..] | [0x0f, 0x80..=0x8f, ..]);
    is_conditional.then_some(prefix + length)
}

/// What `arch/x86/kernel/uprobes.c` does with the instruction: see `push_setup_xol_ops` and
/// `branch_setup_xol_ops`.
fn step_x86(bytes: &[u8]) -> Step {
    match bytes {
        [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..] => Step::Emulated,
        // nop, and the same with a prefix.
        [0x90, ..] | [0x66, 0x90, ..] => Step::Emulated,
        // jmp, jcc
        [0xeb | 0xe9 | 0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..] => Step::Emulated,
        _ if bytes.starts_with(NOP5) => Step::Nop,
        _ => Step::Stepped,
    }
}

fn decode_arm64(bytes: &[u8]) -> Prologue {
    let first = word(bytes, 0);
    let after = first.filter(|word| is_landing_mark(*word)).and_then(|_| word(bytes, 1));
    // Never past `paciasp`: a probe at the return changes the return address, which must then not be
    // signed yet.
    match (first.map(step_arm64), after.map(step_arm64)) {
        (_, Some(step)) if step != Step::Stepped => Prologue { skip: 4, step },
        (Some(step), _) => Prologue { skip: 0, step },
        (None, _) => Prologue { skip: 0, step: Step::Stepped },
    }
}

/// `bti`, with or without what it is for.
const fn is_landing_mark(word: u32) -> bool {
    word & 0xffff_ff3f == 0xd503_241f
}

/// What `arch/arm64/kernel/probes/decode-insn.c` does with the instruction.
const fn step_arm64(word: u32) -> Step {
    const NOP: u32 = 0xd503_201f;
    let is_simulated = word & 0x1f00_0000 == 0x1000_0000 // adr, adrp
        || word & 0x7c00_0000 == 0x1400_0000 // b, bl
        || word & 0xff00_0010 == 0x5400_0000 // b.cond
        || word & 0x7c00_0000 == 0x3400_0000 // cbz, cbnz, tbz, tbnz
        || word & 0xff9f_fc1f == 0xd61f_0000 // br, blr, ret
        || word & 0xbf00_0000 == 0x1800_0000 // ldr from a place near the program counter
        || word & 0xff00_0000 == 0x9800_0000; // ldrsw, the same
    if is_simulated {
        Step::Emulated
    } else if word == NOP {
        Step::Nop
    } else {
        Step::Stepped
    }
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let bytes = bytes.get(index * 4..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
