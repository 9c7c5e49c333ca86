//! Sampling of files by the client itself.
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use autoprof_protocol::{SamplerStats, Samples};
use rustix::fs::OFlags;

use crate::clock;

/// Largest content that one file may give in one sample.
const LARGEST: usize = 4 << 20;

/// Reads files at an interval and appends what they hold.
#[derive(Debug)]
pub struct Sampler {
    files: Vec<(String, Source)>,
    output: File,
    every_ns: i64,
    next_boot_ns: Option<i64>,
    began_boot_ns: i64,
    count: SamplerStats,
    /// One sample, put together before it is written, so that none is written in halves.
    sample: Vec<u8>,
    /// Where one file is read into; as large as the largest file was.
    buffer: Vec<u8>,
}

/// Where a sample comes from.
#[derive(Debug)]
enum Source {
    /// A file of the kernel's, which stays what it is and stays open.
    Kept(File),
    /// Any other, which may be replaced by another one or come later: it is opened each time.
    Named,
}

impl Source {
    fn of(path: &str) -> Option<Self> {
        if path.starts_with("/proc/") || path.starts_with("/sys/") {
            open(path).map(Self::Kept)
        } else {
            Some(Self::Named)
        }
    }
}

/// A plain file, or nothing: a FIFO or a device may have no end, or make its reader wait, and with that everything that
/// the client has to do.
fn open(path: &str) -> Option<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|file| file.is_file()).then_some(file)
}

impl Sampler {
    /// Opens the files; those of the kernel's that are not there are left out.
    ///
    /// # Errors
    /// When the output cannot be made.
    pub fn open(samples: &Samples, dir: &Path) -> io::Result<Self> {
        let files = samples.files.iter().filter_map(|path| Some((path.clone(), Source::of(path)?))).collect();
        let output = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(&samples.output))?;
        Ok(Self {
            files,
            output,
            every_ns: clock::millis(samples.every_ms).max(1_000_000),
            next_boot_ns: None,
            began_boot_ns: 0,
            count: SamplerStats::default(),
            sample: Vec::new(),
            buffer: vec![0; 16 * 1024],
        })
    }

    /// Takes the first sample and begins to tick.
    ///
    /// # Errors
    /// When the sample cannot be written.
    pub fn begin(&mut self) -> io::Result<()> {
        self.began_boot_ns = clock::boot_ns();
        self.next_boot_ns = Some(self.began_boot_ns);
        self.tick()
    }

    /// When the next sample is due.
    pub fn due(&self) -> Option<i64> {
        self.next_boot_ns
    }

    /// Takes a sample that is due, and sets the next one on the same grid: ticks that were missed are not made up.
    ///
    /// # Errors
    /// When the sample cannot be written.
    pub fn tick(&mut self) -> io::Result<()> {
        let Some(due) = self.next_boot_ns else { return Ok(()) };
        let behind = clock::boot_ns().saturating_sub(due).max(0);
        self.next_boot_ns = Some(due + (behind / self.every_ns + 1) * self.every_ns);
        self.count.taken += 1;
        self.count.worst_delay_us = self.count.worst_delay_us.max(u64::try_from(behind / 1000).unwrap_or(0));
        self.take()
    }

    /// Takes a last sample, so that the data covers the window to its end.
    ///
    /// # Errors
    /// When the sample cannot be written.
    pub fn end(&mut self) -> io::Result<()> {
        let Some(next) = self.next_boot_ns.take() else { return Ok(()) };
        let now = clock::boot_ns();
        let steps = now.saturating_sub(self.began_boot_ns) / self.every_ns;
        self.count.expected = u64::try_from(steps).unwrap_or(0) + 1;
        // One that is due at this very moment is the last one.
        self.count.taken += u64::from(next <= now);
        self.take()
    }

    /// How many samples it took, once it has ended.
    pub fn count(&self) -> SamplerStats {
        self.count
    }

    fn take(&mut self) -> io::Result<()> {
        self.sample.clear();
        let now = clock::now();
        writeln!(self.sample, "# {} {}", now.unix_ns, now.boot_ns)?;
        for (path, source) in &self.files {
            let read = match source {
                Source::Kept(file) => read_whole(file, &mut self.buffer),
                Source::Named => open(path).and_then(|file| read_whole(&file, &mut self.buffer)),
            };
            let Some(n) = read else { continue };
            writeln!(self.sample, "@ {path} {n}")?;
            self.sample.extend_from_slice(&self.buffer[..n]);
        }
        self.output.write_all(&self.sample)
    }
}

/// Reads a file of `/proc` from its beginning: it is made anew for each read at offset 0.
fn read_whole(file: &File, buffer: &mut Vec<u8>) -> Option<usize> {
    let mut length = 0;
    loop {
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => return Some(length),
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        if length == buffer.len() {
            if length >= LARGEST {
                return None;
            }
            buffer.resize(length * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_a_stamp_and_each_file_with_its_length() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "one\ntwo\n").unwrap();
        let a = dir.path().join("a").display().to_string();
        let samples = Samples { every_ms: 10, files: vec![a.clone(), "/nonexistent".into()], output: "out".into() };
        let mut sampler = Sampler::open(&samples, dir.path()).unwrap();
        sampler.begin().unwrap();
        sampler.end().unwrap();
        let text = std::fs::read_to_string(dir.path().join("out")).unwrap();
        let sample = format!("@ {a} 8\none\ntwo\n");
        assert_eq!(text.matches(&sample).count(), 2, "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("# ")).count(), 2);
    }

    #[test]
    fn what_would_make_its_reader_wait_is_left_out_and_what_is_replaced_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        crate::marker::make_fifo(&dir.path().join("fifo")).unwrap();
        std::fs::write(path("log"), "before").unwrap();
        let files = vec![path("fifo"), "/dev/zero".into(), "/proc/kmsg".into(), path("log")];
        let mut sampler = Sampler::open(&Samples { every_ms: 10, files, output: "out".into() }, dir.path()).unwrap();
        sampler.begin().unwrap();
        std::fs::write(path("other"), "afterwards").unwrap();
        std::fs::rename(path("other"), path("log")).unwrap();
        sampler.end().unwrap();
        let text = std::fs::read_to_string(dir.path().join("out")).unwrap();
        assert!(text.contains("log 6\nbefore") && text.contains("log 10\nafterwards"), "{text}");
        assert!(!text.contains("fifo") && !text.contains("zero") && !text.contains("kmsg"), "{text}");
    }

    #[test]
    fn missed_ticks_are_not_made_up() {
        let dir = tempfile::tempdir().unwrap();
        let samples = Samples { every_ms: 1000, files: vec![], output: "out".into() };
        let mut sampler = Sampler::open(&samples, dir.path()).unwrap();
        sampler.next_boot_ns = Some(clock::boot_ns() - 5_500_000_000);
        sampler.tick().unwrap();
        let ahead = sampler.due().unwrap() - clock::boot_ns();
        assert!((0..=1_000_000_000).contains(&ahead), "{ahead}");
    }
}
