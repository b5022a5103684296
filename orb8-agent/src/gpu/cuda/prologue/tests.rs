use proptest::prelude::*;

use super::*;

fn x86(bytes: &[u8]) -> (u64, Step) {
    let Prologue { skip, step } = decode(Machine::X86, bytes);
    (skip, step)
}

fn arm64(words: &[u32]) -> (u64, Step) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let Prologue { skip, step } = decode(Machine::Arm64, &bytes);
    (skip, step)
}

const THUNK: [u8; 12] = [0x81, 0x3d, 0x4e, 0x8a, 0x7d, 0x05, 0x00, 0xba, 0x1c, 0x32, 0x74, 0x0c];

#[test]
fn prologues_of_the_real_libraries() {
    assert_eq!(x86(&THUNK), (10, Step::Emulated), "libcuda");
    let jne = [&THUNK[..10], &[0x75, 0x0c]].concat();
    assert_eq!(x86(&jne), (10, Step::Emulated));
    assert_eq!(x86(&[0x55, 0x48, 0x89, 0xe5]), (0, Step::Emulated), "libcudart");
    let nccl = [ENDBR64, &[0x41, 0x57, 0x41, 0x56]].concat();
    assert_eq!(x86(&nccl), (4, Step::Emulated), "libnccl");
    let marked = [ENDBR64, &THUNK].concat();
    assert_eq!(x86(&marked), (14, Step::Emulated), "both");
}

#[test]
fn anything_else_is_probed_at_its_beginning() {
    assert_eq!(x86(&[0x48, 0x83, 0xec, 0x08]), (0, Step::Stepped), "sub $8,%rsp");
    assert_eq!(x86(&[0x48, 0x89, 0xe0]), (0, Step::Stepped), "mov %rsp,%rax");
    let marked = [ENDBR64, &[0x48, 0x89, 0xe0]].concat();
    assert_eq!(x86(&marked), (0, Step::Stepped));
    let unconditional = [&THUNK[..10], &[0xff, 0x25, 0, 0, 0, 0]].concat();
    assert_eq!(x86(&unconditional), (0, Step::Stepped), "a compare without its jump");
    let pushed = [&THUNK[..10], &[0x55]].concat();
    assert_eq!(x86(&pushed), (0, Step::Stepped), "a compare that a later jump looks at");
    assert_eq!(x86(&THUNK[..10]), (0, Step::Stepped), "cut off");
    assert_eq!(x86(NOP5), (0, Step::Nop));
    assert_eq!(x86(&[]), (0, Step::Stepped));
}

#[test]
fn on_arm64_a_landing_mark_is_skipped_and_a_signature_is_not() {
    let (bti_c, paciasp, stp) = (0xd503_245f, 0xd503_233f, 0xa9bf_7bfd);
    let (adrp, ldr, b, nop) = (0x9000_0010, 0x5800_0050, 0x1400_0004, 0xd503_201f);
    assert_eq!(arm64(&[bti_c, adrp]), (4, Step::Emulated));
    assert_eq!(arm64(&[bti_c, b]), (4, Step::Emulated));
    assert_eq!(arm64(&[bti_c, nop]), (4, Step::Nop));
    assert_eq!(arm64(&[bti_c, stp]), (0, Step::Stepped));
    assert_eq!(arm64(&[paciasp, adrp]), (0, Step::Stepped), "the return address is signed there");
    assert_eq!(arm64(&[stp]), (0, Step::Stepped));
    assert_eq!(arm64(&[ldr]), (0, Step::Emulated));
    assert_eq!(arm64(&[]), (0, Step::Stepped));
}

#[test]
fn forwarders_are_known() {
    assert_eq!(forward(Machine::X86, &[0xe9, 0x10, 0, 0, 0]), Some(0x15));
    assert_eq!(forward(Machine::X86, &[0xeb, 0xfe]), Some(0));
    let marked = [ENDBR64, &[0xe9, 0xf0, 0xff, 0xff, 0xff]].concat();
    assert_eq!(forward(Machine::X86, &marked), Some(4 + 5 - 16));
    assert_eq!(forward(Machine::X86, &THUNK), None, "a jump through a table");
    assert_eq!(forward(Machine::X86, &[0xe9, 0x10]), None, "cut off");
    assert_eq!(forward(Machine::Arm64, &0x1400_0004_u32.to_le_bytes()), Some(16));
    assert_eq!(forward(Machine::Arm64, &0x17ff_ffff_u32.to_le_bytes()), Some(-4));
    assert_eq!(forward(Machine::Arm64, &0x9400_0004_u32.to_le_bytes()), None, "a call");
}

proptest! {
    /// What is skipped is a landing mark and a compare with a variable, byte for byte, or nothing.
    #[test]
    fn nothing_else_is_skipped(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let Prologue { skip, step } = decode(Machine::X86, &bytes);
        let skip = usize::try_from(skip).expect("small");
        let (mark, rest) = without_mark(&bytes);
        prop_assert!(skip == 0 || skip == mark || Some(skip - mark) == compare(rest));
        prop_assert_eq!(step == Step::Stepped, step_x86(&bytes[skip..]) == Step::Stepped);
        prop_assert!(skip < bytes.len() || skip == 0);
        let _ = forward(Machine::X86, &bytes);
    }

    /// The same, of bytes that begin as a thunk does.
    #[test]
    fn a_compare_is_skipped_before_a_condition_only(
        opcode in prop::sample::select(vec![0x80_u8, 0x81, 0x83]),
        rest in prop::collection::vec(any::<u8>(), 0..20),
        is_marked: bool,
    ) {
        let mut bytes = if is_marked { ENDBR64.to_vec() } else { Vec::new() };
        bytes.extend([opcode, 0x3d]);
        bytes.extend(rest);
        let Prologue { skip, step } = decode(Machine::X86, &bytes);
        let at = usize::try_from(skip).expect("small");
        let is_conditional = matches!(bytes.get(at), Some(0x70..=0x7f | 0x0f));
        prop_assert_eq!(step == Step::Emulated, skip > 0 && is_conditional);
    }

    #[test]
    fn on_arm64_no_more_than_a_mark_is_skipped(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let Prologue { skip, .. } = decode(Machine::Arm64, &bytes);
        prop_assert!(skip == 0 || skip == 4 && word(&bytes, 0).is_some_and(is_landing_mark));
        let _ = forward(Machine::Arm64, &bytes);
    }
}
