//! What NVIDIA's error numbers (XID) mean, and what to do.
//!
//! Meanings are by NVIDIA's catalogue, in other words where its own say little. The action is what the
//! catalogue says to do first; where that is to start the program again, the pod is, and also where the
//! program has ended of itself. The class is where the fault is looked for first. Numbers that the
//! catalogue no longer has are by the list for older boards.

use super::event::Xid;
use super::event::XidAction::{self, Drain, None as Nothing, Reboot, ResetDevice, RestartPod};
use super::event::XidClass::{self, Application, Driver, Hardware, Other};

/// What is said of a number that the table does not have.
const UNKNOWN: &str = "not in orb8's table: see NVIDIA's XID catalogue";

/// Every number that is known, in their order.
const TABLE: &[Xid] = &[
    row(8, Driver, RestartPod, "GPU stopped processing"),
    row(11, Application, RestartPod, "invalid or corrupted push buffer stream"),
    row(13, Application, RestartPod, "graphics engine exception: an access out of bounds, usually"),
    row(14, Driver, Nothing, "fake or injected error"),
    row(25, Application, RestartPod, "invalid or illegal push buffer stream"),
    row(31, Application, RestartPod, "GPU memory page fault: an illegal access, usually"),
    row(32, Hardware, RestartPod, "push buffer damaged on its way: the PCIe link, usually"),
    row(37, Driver, Nothing, "driver firmware error"),
    row(38, Driver, Nothing, "driver firmware error: watchdog timeout"),
    row(39, Driver, RestartPod, "copy engine 0 exception"),
    row(40, Driver, RestartPod, "copy engine 1 exception"),
    row(41, Driver, RestartPod, "copy engine 2 exception"),
    row(43, Application, RestartPod, "GPU stopped processing: the program's own fault"),
    row(44, Driver, Nothing, "graphics engine fault during a context switch"),
    row(45, Application, RestartPod, "cleanup: a program ended, or another error before"),
    row(46, Driver, ResetDevice, "GPU stopped processing: engine timeout"),
    row(48, Hardware, ResetDevice, "uncorrectable (double-bit) ECC error"),
    row(54, Hardware, Drain, "auxiliary power is not connected to the board"),
    row(56, Driver, Nothing, "display engine error"),
    row(57, Hardware, Drain, "memory link training failed"),
    row(58, Hardware, Drain, "unstable memory interface"),
    row(59, Driver, ResetDevice, "internal micro-controller error"),
    row(60, Driver, RestartPod, "video processor exception"),
    row(61, Driver, ResetDevice, "internal micro-controller breakpoint"),
    row(62, Driver, ResetDevice, "internal micro-controller halt"),
    row(63, Hardware, Nothing, "memory page or row retired: complete at the next reset"),
    row(64, Hardware, ResetDevice, "memory page or row could not be retired"),
    row(65, Driver, RestartPod, "video encoder 1 error"),
    row(66, Driver, Nothing, "illegal access by the driver"),
    row(67, Driver, Nothing, "illegal access by the driver"),
    row(68, Application, RestartPod, "video decoder 0 exception"),
    row(69, Application, RestartPod, "graphics engine class error"),
    row(70, Driver, RestartPod, "copy engine 3 error"),
    row(71, Driver, RestartPod, "copy engine 4 error"),
    row(72, Driver, RestartPod, "copy engine 5 error"),
    row(73, Driver, RestartPod, "video encoder 2 error"),
    row(74, Hardware, ResetDevice, "NVLink error"),
    row(75, Driver, RestartPod, "copy engine 6 error"),
    row(76, Driver, RestartPod, "copy engine 7 error"),
    row(77, Driver, RestartPod, "copy engine 8 error"),
    row(78, Driver, Nothing, "vGPU start error: the driver's versions do not match"),
    row(79, Hardware, Reboot, "GPU has fallen off the bus"),
    row(80, Hardware, RestartPod, "corrupted data sent to the GPU"),
    row(81, Hardware, Drain, "VGA subsystem error"),
    row(82, Driver, RestartPod, "JPEG engine 0 error"),
    row(83, Driver, RestartPod, "video decoder 1 error"),
    row(84, Driver, RestartPod, "video decoder 2 error"),
    row(85, Driver, RestartPod, "copy engine 9 error"),
    row(86, Driver, RestartPod, "optical flow engine exception"),
    row(88, Driver, RestartPod, "video decoder 3 error"),
    row(89, Driver, RestartPod, "video decoder 4 error"),
    row(92, Hardware, Nothing, "high rate of single-bit ECC errors"),
    row(93, Hardware, Nothing, "InfoROM wear limit exceeded"),
    row(94, Hardware, RestartPod, "contained memory error"),
    row(95, Hardware, ResetDevice, "uncontained memory error"),
    row(96, Driver, RestartPod, "video decoder 5 error"),
    row(97, Driver, RestartPod, "video decoder 6 error"),
    row(98, Driver, RestartPod, "video decoder 7 error"),
    row(99, Driver, RestartPod, "JPEG engine 1 error"),
    row(100, Driver, RestartPod, "JPEG engine 2 error"),
    row(101, Driver, RestartPod, "JPEG engine 3 error"),
    row(102, Driver, RestartPod, "JPEG engine 4 error"),
    row(103, Driver, RestartPod, "JPEG engine 5 error"),
    row(104, Driver, RestartPod, "JPEG engine 6 error"),
    row(105, Driver, RestartPod, "JPEG engine 7 error"),
    row(106, Driver, Nothing, "SMBus test message"),
    row(107, Driver, Nothing, "SMBus test message"),
    row(108, Driver, Nothing, "NVLink remote translation error"),
    row(109, Application, ResetDevice, "context switch timeout"),
    row(110, Hardware, ResetDevice, "security fault"),
    row(119, Driver, ResetDevice, "GSP firmware did not answer"),
    row(120, Driver, ResetDevice, "GSP firmware error"),
    row(121, Hardware, Nothing, "corrected errors of the link to the CPU (C2C)"),
    row(122, Driver, Nothing, "SPI flash read failed"),
    row(123, Driver, Nothing, "SPI flash write failed"),
    row(124, Driver, Nothing, "SPI flash erase failed"),
    row(125, Hardware, Nothing, "InfoROM file system error"),
    row(126, Driver, RestartPod, "copy engine 10 error"),
    row(127, Driver, RestartPod, "copy engine 11 error"),
    row(128, Driver, RestartPod, "copy engine 12 error"),
    row(129, Driver, RestartPod, "copy engine 13 error"),
    row(130, Driver, RestartPod, "copy engine 14 error"),
    row(131, Driver, RestartPod, "copy engine 15 error"),
    row(132, Driver, RestartPod, "copy engine 16 error"),
    row(133, Driver, RestartPod, "copy engine 17 error"),
    row(134, Driver, RestartPod, "copy engine 18 error"),
    row(135, Driver, RestartPod, "copy engine 19 error"),
    row(136, Hardware, ResetDevice, "NVLink training failed"),
    row(137, Application, RestartPod, "NVLink privilege error: an illegal peer access, usually"),
    row(139, Driver, RestartPod, "optical flow engine 1 error"),
    row(140, Hardware, ResetDevice, "ECC error that was not recovered"),
    row(141, Driver, Nothing, "CUDA fast path error"),
    row(142, Driver, RestartPod, "video encoder 3 error"),
    row(143, Hardware, ResetDevice, "GPU initialization error"),
    row(144, Hardware, ResetDevice, "NVLink SAW error"),
    row(145, Hardware, ResetDevice, "NVLink RLW error"),
    row(146, Hardware, ResetDevice, "NVLink TLW error"),
    row(147, Hardware, ResetDevice, "NVLink TREX error"),
    row(148, Hardware, ResetDevice, "NVLink NVLPW_CTRL error"),
    row(149, Hardware, ResetDevice, "NVLink NETIR error"),
    row(150, Hardware, ResetDevice, "NVLink MSE error"),
    row(151, Driver, Reboot, "key rotation error"),
    row(152, Driver, Nothing, "DLA memory management error"),
    row(153, Driver, Nothing, "DLA timeout"),
    row(154, Driver, ResetDevice, "recovery action changed: the kernel's log says to what"),
    row(155, Driver, ResetDevice, "NVLink taken down by software"),
    row(156, Hardware, ResetDevice, "resource retired: complete at the next reset"),
    row(157, Hardware, Drain, "resource could not be retired"),
    row(158, Hardware, ResetDevice, "GPU fatal timeout"),
    row(159, Hardware, Nothing, "non-data error of the link to the CPU (C2C)"),
    row(160, Driver, Nothing, "channel retired"),
    row(161, Driver, Nothing, "channel could not be retired"),
    row(162, Hardware, Nothing, "power smoothing engaged again"),
    row(163, Hardware, Nothing, "power smoothing disengaged"),
    row(164, Hardware, Nothing, "power smoothing: little lifetime left"),
    row(165, Hardware, Nothing, "power smoothing: lifetime exhausted"),
    row(166, Driver, ResetDevice, "NVLink traffic before its encryption was set up"),
    row(167, Hardware, Reboot, "PCIe fatal timeout"),
    row(168, Hardware, ResetDevice, "errors in protected memory: less memory is left"),
    row(169, Driver, ResetDevice, "security micro-controller halt"),
    row(170, Driver, ResetDevice, "NVLink interrupt in confidential computing mode"),
    row(171, Hardware, ResetDevice, "uncorrectable DRAM error"),
    row(172, Hardware, ResetDevice, "uncorrectable SRAM error"),
];

/// Says what is known about an error number.
#[must_use]
pub fn describe(code: u32) -> Xid {
    TABLE
        .binary_search_by_key(&code, |xid| xid.code)
        .ok()
        .and_then(|place| TABLE.get(place))
        .copied()
        .unwrap_or(Xid { code, class: Other, action: Nothing, meaning: UNKNOWN })
}

/// Returns every number that is known, in their order.
#[must_use]
pub const fn known() -> &'static [Xid] {
    TABLE
}

const fn row(code: u32, class: XidClass, action: XidAction, meaning: &'static str) -> Xid {
    Xid { code, class, action, meaning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_has_no_number_twice() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
        }
    }

    #[test]
    fn every_row_has_a_meaning_and_is_found() {
        for xid in TABLE {
            assert!(!xid.meaning.is_empty(), "{}", xid.code);
            assert!(
                xid.meaning.len() <= 60,
                "{}: a few words, not {}",
                xid.code,
                xid.meaning.len()
            );
            assert_ne!(xid.class, Other, "{}", xid.code);
            assert_eq!(describe(xid.code), *xid);
        }
    }

    #[test]
    fn programs_faults_are_told_from_boards() {
        let application: Vec<u32> =
            TABLE.iter().filter(|xid| xid.class == Application).map(|xid| xid.code).collect();
        assert_eq!(application, [11, 13, 25, 31, 43, 45, 68, 69, 109, 137]);
        // What is a program's fault never calls for more than a reset of the device.
        for code in application {
            assert!(matches!(describe(code).action, RestartPod | ResetDevice), "{code}");
        }
    }

    #[test]
    fn the_ones_that_matter_say_what_to_do() {
        let expected = [
            (13, Application, RestartPod),
            (31, Application, RestartPod),
            (48, Hardware, ResetDevice),
            (63, Hardware, Nothing),
            (64, Hardware, ResetDevice),
            (74, Hardware, ResetDevice),
            (79, Hardware, Reboot),
            (94, Hardware, RestartPod),
            (95, Hardware, ResetDevice),
            (119, Driver, ResetDevice),
            (120, Driver, ResetDevice),
            (140, Hardware, ResetDevice),
        ];
        for (code, class, action) in expected {
            let xid = describe(code);
            assert_eq!((xid.class, xid.action), (class, action), "{code}");
        }
        let named = [
            13, 31, 32, 38, 43, 44, 45, 48, 56, 57, 58, 61, 62, 63, 64, 68, 69, 72, 73, 74, 79, 80,
            92, 94, 95, 109, 110, 119, 120, 121, 123, 137, 140, 143, 144, 145, 146, 147, 148, 149,
            150, 154,
        ];
        for code in named {
            assert_ne!(describe(code).class, Other, "{code}");
        }
    }

    #[test]
    fn an_unknown_number_is_other_and_calls_for_nothing() {
        for code in [0, 1, 999, u32::MAX] {
            assert_eq!(
                describe(code),
                Xid { code, class: Other, action: Nothing, meaning: UNKNOWN },
                "{code}"
            );
        }
    }
}
