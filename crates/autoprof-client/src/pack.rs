//! Packing the results into one stream on standard output.
use std::{
    fs::{self, File},
    io::{self, BufWriter},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use autoprof_protocol::{LOG_FILE, RESULTS_DIR, archive};

/// Packs every regular file of the results, and the client's log, in the order of their names.
///
/// Links, FIFOs and devices are not results of anything and are passed over.
///
/// # Errors
/// When a file cannot be read or the stream not be written.
pub fn pack(dir: &Path) -> io::Result<()> {
    // The pipe or socket takes what it can; large writes keep the number of system calls down.
    let out = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let mut encoder = archive::Encoder::new(out)?;
    let results = dir.join(RESULTS_DIR);
    let mut files = Vec::new();
    find(&results, &mut files)?;
    files.sort();
    for path in files {
        let Some(name) = path.strip_prefix(&results).ok().and_then(Path::to_str) else {
            eprintln!("left out {}: its name is not UTF-8", path.display());
            continue;
        };
        if let Err(e) = archive::check_path(name) {
            eprintln!("left out: {e}");
            continue;
        }
        add(&mut encoder, name, &path)?;
    }
    add(&mut encoder, LOG_FILE, &dir.join(LOG_FILE))?;
    encoder.finish()?;
    Ok(())
}

fn add<W: io::Write>(encoder: &mut archive::Encoder<W>, name: &str, path: &Path) -> io::Result<()> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
    let size = file.metadata()?.len();
    encoder.file(name, size, file)
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            find(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
