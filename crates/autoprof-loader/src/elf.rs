//! Reads a plugin's note from its file. Nothing of the plugin is run: `dlopen` would run its constructors.
use std::{fs, fs::File};

use autoprof_abi::note::{NOTE_NAME, NOTE_TYPE, PluginNote};
use camino::Utf8Path;
use object::{
    Endianness, ReadCache, ReadRef, elf,
    read::elf::{FileHeader, ProgramHeader},
};

use crate::PluginFileError;

/// Longest note that is read.
const MAX_NOTE: usize = 4 << 20;
/// Bytes of a 64-bit ELF header.
const HEADER: u64 = 64;

const MACHINE: elf::Machine = if cfg!(target_arch = "x86_64") {
    elf::EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else if cfg!(target_arch = "riscv64") {
    elf::EM_RISCV
} else {
    elf::EM_NONE
};

/// Reads the note of a file.
///
/// # Errors
/// When the file is not a whole shared library for this machine with a note that can be read.
pub fn read_note(path: &Utf8Path) -> Result<PluginNote, PluginFileError> {
    let not = |why: &str| PluginFileError::NotALibrary(why.to_owned());
    let metadata = fs::metadata(path)?;
    // Before it is opened: that would wait for somebody to write into a FIFO.
    if !metadata.is_file() {
        return Err(not("it is not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(not("the file is empty"));
    }
    let file = ReadCache::new(File::open(path)?);
    let ident = (&file).read_bytes_at(0, metadata.len().min(20)).map_err(|()| not("the file is cut short"))?;
    if !ident.starts_with(&elf::ELFMAG) {
        let start = String::from_utf8_lossy(&ident[..ident.len().min(12)]);
        return Err(PluginFileError::NotALibrary(format!("it begins with {start:?}")));
    }
    if metadata.len() < HEADER {
        return Err(not("the file is cut short"));
    }
    check_machine(ident)?;
    let text = note_text(&file)?.ok_or(PluginFileError::NotAPlugin)?;
    PluginNote::read(&text).map_err(PluginFileError::BadNote)
}

fn check_machine(ident: &[u8]) -> Result<(), PluginFileError> {
    let bytes = [ident[18], ident[19]];
    let big_endian = ident[5] == elf::ELFDATA2MSB.0;
    let machine = elf::Machine(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) });
    if machine == MACHINE && ident[4] == elf::ELFCLASS64.0 && big_endian == cfg!(target_endian = "big") {
        return Ok(());
    }
    let found = match machine {
        elf::EM_X86_64 => "x86_64".to_owned(),
        elf::EM_AARCH64 => "aarch64".to_owned(),
        elf::EM_386 => "x86".to_owned(),
        elf::EM_ARM => "arm".to_owned(),
        elf::EM_RISCV => "riscv".to_owned(),
        elf::EM_PPC64 => "powerpc64".to_owned(),
        elf::EM_S390 => "s390x".to_owned(),
        other => format!("ELF machine {}", other.0),
    };
    Err(PluginFileError::OtherMachine { found, wanted: std::env::consts::ARCH })
}

fn note_text<'a, R: ReadRef<'a>>(file: R) -> Result<Option<Vec<u8>>, PluginFileError> {
    let damaged = |e: object::read::Error| PluginFileError::NotALibrary(format!("its ELF headers are damaged: {e}"));
    let header = elf::FileHeader64::<Endianness>::parse(file).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let segments = header.program_headers(endian, file).map_err(damaged)?;
    let length = file.len().unwrap_or(0);
    let cut_short = || PluginFileError::NotALibrary("the file is cut short".to_owned());
    // Linkers put the table of sections last; a file that is stripped of it has none.
    let table = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
    if u64::checked_add(header.e_shoff(endian), table).is_none_or(|end| end > length) {
        return Err(cut_short());
    }
    for segment in segments {
        // The system's loader maps what it is told and dies by SIGBUS where the file has ended.
        let end = u64::checked_add(segment.p_offset(endian), segment.p_filesz(endian));
        if segment.p_type(endian) == elf::PT_LOAD && end.is_none_or(|end| end > length) {
            return Err(cut_short());
        }
    }
    for segment in segments {
        let Some(mut notes) = segment.notes(endian, file).map_err(damaged)? else { continue };
        while let Some(note) = notes.next().map_err(damaged)? {
            if note.name() == NOTE_NAME && note.n_type(endian).0 == NOTE_TYPE {
                if note.desc().len() > MAX_NOTE {
                    return Err(PluginFileError::BadNote("it is too long".to_owned()));
                }
                return Ok(Some(note.desc().to_vec()));
            }
        }
    }
    Ok(None)
}
