//! Reads a plugin's note from its file. Nothing of the plugin is run: `dlopen` would run its constructors.
use std::{fs::File, io, os::unix::fs::FileExt as _};

use autoprof_abi::note::{NOTE_NAME, NOTE_TYPE, PluginNote};
use camino::Utf8Path;
use object::{
    Endianness, ReadCache, ReadCacheOps, ReadRef, elf,
    read::elf::{FileHeader, ProgramHeader},
};

use crate::{PluginFileError, Trust, file::PluginFile};

/// Longest segment of notes that is read.
const MAX_NOTE: usize = 4 << 20;
/// How many of them: a linker makes one for each alignment and kind.
const MAX_NOTE_SEGMENTS: usize = 16;
/// How much of a file is read at first: linkers put headers and notes there.
const BEGINNING: usize = 4096;
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
    PluginFile::open(path, Trust::Any)?.note()
}

/// Reads the note of a regular file that is open.
pub(crate) fn note_of(file: &File) -> Result<PluginNote, PluginFileError> {
    let not = |why: &str| PluginFileError::NotALibrary(why.to_owned());
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(not("the file is empty"));
    }
    let file = ReadCache::new(Begun::new(file)?);
    let ident = (&file).read_bytes_at(0, length.min(20)).map_err(|()| not("the file is cut short"))?;
    if !ident.starts_with(&elf::ELFMAG) {
        let start = String::from_utf8_lossy(&ident[..ident.len().min(12)]);
        return Err(PluginFileError::NotALibrary(format!("it begins with {start:?}")));
    }
    if length < HEADER {
        return Err(not("the file is cut short"));
    }
    check_machine(ident)?;
    let text = note_text(&file)?.ok_or(PluginFileError::NotAPlugin)?;
    PluginNote::read(&text).map_err(PluginFileError::BadNote)
}

/// A file whose beginning is in memory: all that is read of most.
struct Begun<'a> {
    file: &'a File,
    beginning: Vec<u8>,
    at: u64,
}

impl<'a> Begun<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        let mut beginning = vec![0; BEGINNING];
        let length = file.read_at(&mut beginning, 0)?;
        beginning.truncate(length);
        Ok(Self { file, beginning, at: 0 })
    }
}

impl ReadCacheOps for Begun<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        self.file.metadata().map(|meta| meta.len()).map_err(drop)
    }

    fn seek(&mut self, at: u64) -> Result<u64, ()> {
        self.at = at;
        Ok(at)
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, ()> {
        let known =
            usize::try_from(self.at).ok().and_then(|at| self.beginning.get(at..)).filter(|known| !known.is_empty());
        let read = match known {
            Some(known) => {
                let length = known.len().min(out.len());
                out[..length].copy_from_slice(&known[..length]);
                length
            }
            None => self.file.read_at(out, self.at).map_err(drop)?,
        };
        self.at += read as u64;
        Ok(read)
    }

    fn read_exact(&mut self, mut out: &mut [u8]) -> Result<(), ()> {
        while !out.is_empty() {
            let read = self.read(out)?;
            if read == 0 {
                return Err(());
            }
            out = &mut out[read..];
        }
        Ok(())
    }
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
    // What is read stays in memory: a file could name all of itself in each of its segments.
    let noted = segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_NOTE);
    for segment in noted.take(MAX_NOTE_SEGMENTS) {
        if segment.p_filesz(endian) > MAX_NOTE as u64 {
            return Err(PluginFileError::BadNote("it is too long".to_owned()));
        }
        let Some(mut notes) = segment.notes(endian, file).map_err(damaged)? else { continue };
        while let Some(note) = notes.next().map_err(damaged)? {
            if note.name() == NOTE_NAME && note.n_type(endian).0 == NOTE_TYPE {
                return Ok(Some(note.desc().to_vec()));
            }
        }
    }
    Ok(None)
}
