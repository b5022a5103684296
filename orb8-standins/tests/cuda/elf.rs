//! The libraries as files: what is exported and how it begins, which decides where probes go.

use std::collections::BTreeMap;
use std::path::Path;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};

use crate::node::{bytes, paths};

/// An exported function.
struct Export {
    address: u64,
    size: u64,
    /// From its beginning to 32 bytes on.
    code: Vec<u8>,
}

fn exports(path: &Path) -> BTreeMap<String, Export> {
    let file = bytes(path);
    let elf: ElfFile64 = ElfFile64::parse(&*file).unwrap();
    let segments: Vec<_> = elf.segments().map(|it| (it.address(), it.file_range())).collect();
    let read = |address: u64| {
        let is_in = |start: u64, size: u64| (start..start + size).contains(&address);
        let (start, (offset, _)) =
            segments.iter().find(|(start, (_, size))| is_in(*start, *size)).unwrap();
        let offset = (address - start + offset) as usize;
        file[offset..offset + 32].to_vec()
    };
    elf.dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .map(|symbol| {
            let (address, size) = (symbol.address(), symbol.size());
            let code = read(address);
            (symbol.name().unwrap().to_owned(), Export { address, size, code })
        })
        .collect()
}

/// Functions of the driver that others watch, with every variant that real drivers export.
const WATCHED: &str = "
    cuLaunchKernel cuLaunchKernel_ptsz cuLaunchKernelEx cuLaunchKernelEx_ptsz
    cuLaunchCooperativeKernel cuLaunchCooperativeKernel_ptsz cuGraphLaunch cuGraphLaunch_ptsz
    cuGraphInstantiate cuGraphInstantiate_v2 cuGraphInstantiateWithFlags
    cuGraphInstantiateWithParams cuGraphInstantiateWithParams_ptsz cuGraphGetNodes
    cuMemAlloc cuMemAlloc_v2 cuMemAllocAsync cuMemAllocAsync_ptsz cuMemAllocFromPoolAsync
    cuMemAllocFromPoolAsync_ptsz cuMemAllocManaged cuMemAllocPitch cuMemAllocPitch_v2 cuMemCreate
    cuMemRelease cuMemMap cuMemUnmap cuMemFree cuMemFree_v2 cuMemFreeAsync cuMemFreeAsync_ptsz
    cuMemHostAlloc cuMemAllocHost cuMemAllocHost_v2 cuMemFreeHost cuMemHostRegister
    cuMemHostRegister_v2 cuMemHostUnregister
    cuMemcpy cuMemcpy_ptds cuMemcpyAsync cuMemcpyAsync_ptsz cuMemcpyPeer cuMemcpyPeer_ptds
    cuMemcpyPeerAsync cuMemcpyPeerAsync_ptsz cuMemcpyBatchAsync cuMemcpyBatchAsync_ptsz
    cuMemcpyBatchAsync_v2 cuMemcpyBatchAsync_v2_ptsz
    cuMemcpyHtoD cuMemcpyHtoD_v2 cuMemcpyHtoD_v2_ptds cuMemcpyHtoDAsync cuMemcpyHtoDAsync_v2
    cuMemcpyHtoDAsync_v2_ptsz cuMemcpyDtoH cuMemcpyDtoH_v2 cuMemcpyDtoH_v2_ptds cuMemcpyDtoHAsync
    cuMemcpyDtoHAsync_v2 cuMemcpyDtoHAsync_v2_ptsz cuMemcpyDtoD cuMemcpyDtoD_v2
    cuMemcpyDtoD_v2_ptds cuMemcpyDtoDAsync cuMemcpyDtoDAsync_v2 cuMemcpyDtoDAsync_v2_ptsz
    cuMemcpyAtoH_v2 cuMemcpyAtoH_v2_ptds cuMemcpyAtoHAsync_v2 cuMemcpyAtoHAsync_v2_ptsz
    cuMemcpyHtoA_v2 cuMemcpyHtoA_v2_ptds cuMemcpyHtoAAsync_v2 cuMemcpyHtoAAsync_v2_ptsz
    cuMemcpyAtoD_v2 cuMemcpyAtoD_v2_ptds cuMemcpyDtoA_v2 cuMemcpyDtoA_v2_ptds cuMemcpyAtoA_v2
    cuMemcpyAtoA_v2_ptds cuMemcpy2D_v2 cuMemcpy2D_v2_ptds cuMemcpy2DUnaligned_v2
    cuMemcpy2DUnaligned_v2_ptds cuMemcpy2DAsync_v2 cuMemcpy2DAsync_v2_ptsz cuMemcpy3D_v2
    cuMemcpy3D_v2_ptds cuMemcpy3DAsync_v2 cuMemcpy3DAsync_v2_ptsz cuMemcpy3DPeer
    cuMemcpy3DPeer_ptds cuMemcpy3DPeerAsync cuMemcpy3DPeerAsync_ptsz
    cuStreamSynchronize cuStreamSynchronize_ptsz cuEventSynchronize cuCtxSynchronize
    cuModuleLoad cuModuleLoadData cuModuleLoadDataEx cuModuleLoadFatBinary cuLibraryLoadData
    cuLibraryLoadFromFile cuModuleGetFunction cuLibraryGetKernel cuKernelGetFunction
    cuDevicePrimaryCtxRetain cuCtxSetCurrent cuCtxPushCurrent cuCtxPushCurrent_v2 cuDeviceGetUuid
    cuDeviceGetUuid_v2 cuGetProcAddress cuGetProcAddress_v2 cuGetExportTable cuInit
    cuDriverGetVersion";

#[test]
fn the_driver_has_every_variant() {
    let (whole, foreign) = (exports(&paths().cuda), exports(&paths().cuda_foreign));
    for name in WATCHED.split_whitespace() {
        assert!(whole.contains_key(name), "{name}");
        assert!(foreign.contains_key(name), "{name} in the foreign one");
    }
    assert!(whole.keys().all(|name| name.starts_with("cu")), "nothing else is exported");
}

#[test]
fn the_partial_driver_lacks_what_came_later() {
    let (whole, partial) = (exports(&paths().cuda), exports(&paths().cuda_partial));
    assert!(partial.keys().all(|name| whole.contains_key(name)));
    for name in ["cuMemAllocAsync", "cuMemCreate", "cuLaunchKernelEx", "cuGetProcAddress_v2"] {
        assert!(!partial.contains_key(name), "{name}");
    }
    for name in ["cuLaunchKernel", "cuMemAlloc_v2", "cuStreamSynchronize"] {
        assert!(partial.contains_key(name), "{name}");
    }
}

#[test]
fn only_exported_names_are_left_and_the_sonames_are_right() {
    let sonames = [
        (&paths().cuda, "libcuda.so.1"),
        (&paths().cuda_foreign, "libcuda.so.1"),
        (&paths().cuda_partial, "libcuda.so.1"),
        (&paths().cudart, "libcudart.so.12"),
        (&paths().nccl, "libnccl.so.2"),
    ];
    for (path, soname) in sonames {
        let file = bytes(path);
        let elf: ElfFile64 = ElfFile64::parse(&*file).unwrap();
        assert!(elf.section_by_name(".symtab").is_none(), "{}", path.display());
        assert!(elf.section_by_name(".dynsym").is_some(), "{}", path.display());
        let strings = elf.section_by_name(".dynstr").unwrap().data().unwrap();
        let has = |text: &str| strings.split(|byte| *byte == 0).any(|it| it == text.as_bytes());
        assert!(has(soname), "{}", path.display());
    }
}

#[test]
fn the_workload_keeps_its_names() {
    let file = bytes(&paths().workload);
    let elf: ElfFile64 = ElfFile64::parse(&*file).unwrap();
    for name in ["remember_batch", "append_to_history", "clone_tensor", "use_scratch"] {
        assert!(elf.symbols().any(|symbol| symbol.name().unwrap().contains(name)), "{name}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_drivers_functions_are_the_real_thunks() {
    for path in [&paths().cuda, &paths().cuda_partial] {
        let exports = exports(path);
        let mut flags = Vec::new();
        for (name, Export { address, size, code }) in &exports {
            assert_eq!(code[..2], [0x81, 0x3d], "{name}: cmpl");
            assert_eq!(code[6..10], 0x321c_ba00_u32.to_le_bytes(), "{name}: with the flag's value");
            assert_eq!(code[10..12], [0x74, 0x0c], "{name}: je +12");
            assert_eq!(code[12..14], [0xff, 0x25], "{name}: jmp *slot(%rip)");
            assert_eq!(code[18..24], [0x66, 0x0f, 0x1f, 0x44, 0, 0], "{name}: nop");
            assert_eq!(code[24..30], [0xb8, 4, 0, 0, 0, 0xc3], "{name}: mov $4, %eax; ret");
            assert_eq!((size, address % 16), (&30, 0), "{name}");
            let distance = i32::from_le_bytes(code[2..6].try_into().unwrap());
            flags.push(address.wrapping_add_signed(distance.into()) + 10);
        }
        flags.dedup();
        assert_eq!(flags.len(), 1, "all look at one flag");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_foreign_drivers_functions_begin_with_what_is_expensive() {
    let mut forms = [0; 3];
    for (name, export) in exports(&paths().cuda_foreign) {
        let form = match export.code[..] {
            [0x48, 0x83, 0xec, 0x08, ..] => 0,
            [0x48, 0x89, 0xe0, ..] => 1,
            [0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x89, 0xe0, ..] => 2,
            _ => panic!("{name}: {:x?}", export.code),
        };
        forms[form] += 1;
    }
    assert!(forms.iter().all(|number| *number > 20), "{forms:?}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_runtime_and_nccl_begin_as_the_real_ones() {
    for (name, export) in exports(&paths().cudart) {
        assert_eq!(export.code[0], 0x55, "{name}: push %rbp");
    }
    for (name, export) in exports(&paths().nccl) {
        assert_eq!(export.code[..4], [0xf3, 0x0f, 0x1e, 0xfa], "{name}: endbr64");
        let pushes = export.code[4] == 0x55 || export.code[4..6] == [0x41, 0x57];
        assert!(pushes, "{name}: {:x?}", export.code);
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn functions_begin_as_compilers_for_arm64_make_them() {
    for path in [&paths().cuda, &paths().cudart, &paths().nccl] {
        for (name, export) in exports(path) {
            let word = |index: usize| {
                u32::from_le_bytes(export.code[index * 4..index * 4 + 4].try_into().unwrap())
            };
            assert_eq!((word(0), word(1)), (0xd503_245f, 0xa9bf_7bfd), "{name}: bti c; stp");
        }
    }
}
