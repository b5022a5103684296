//! Drops DWARF from a linked object and keeps what a loader reads: programs, maps, BTF.
//!
//! BTF's relocations go too: they are for a further link, hold nothing that the sections do not
//! hold already, and would be a quarter of the object.

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, Section, SectionData};
use object::elf::SHT_STRTAB;

/// Returns the object without its debug sections, their relocations and their symbols.
pub(crate) fn strip_dwarf(linked: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(linked).context("not an ELF object")?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        let (name, relocation) = match name.strip_prefix(b".rel") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let relocated_btf = relocation && name.starts_with(b".BTF");
        section.delete = name.starts_with(b".debug_") || name == b".llvm_addrsig" || relocated_btf;
    }
    elf.delete_orphans();
    for kept in [".BTF", ".BTF.ext"] {
        let found = elf.sections.iter().any(|section| section.name.as_slice() == kept.as_bytes());
        ensure!(found, "no {kept} section: the linker was not asked for BTF");
    }
    // LLVM keeps the sections' names among the symbols' names; the writer wants them apart.
    let apart = |section: &Section<'_>| matches!(section.data, SectionData::SectionString);
    if !elf.sections.iter().any(apart) {
        let names = elf.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    elf.write(&mut stripped)?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::strip_dwarf;
    use crate::probes::OBJECTS;
    use crate::workspace::root;

    #[test]
    fn checked_in_objects_are_stripped() {
        for object in OBJECTS {
            let found = std::fs::read(root().join(object.path)).expect("a checked-in object");
            let again = strip_dwarf(&found).expect("an object with BTF");
            assert_eq!(found, again, "{}", object.path);
        }
    }
}
