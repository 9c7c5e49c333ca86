//! Reads the client's samples one at a time: `# <unix ns> <boot ns>`, then for each file `@ <path> <bytes>` and those
//! bytes (see `autoprof_protocol::Samples`).
use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    rc::Rc,
};

use autoprof_plugin::convert::{Lines, stamp};

/// The longest file in `/proc` that is taken: `/proc/stat` of a host with 4096 CPUs has less than 1 MiB.
const LONGEST_FILE: usize = 4 << 20;

/// How many files one sample may have.
pub const MOST_FILES: usize = 16;

/// Counts what is read.
struct Counted<R> {
    inner: R,
    at: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at.set(self.at.get() + count as u64);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.at.set(self.at.get() + count as u64);
        self.inner.consume(count);
    }
}

/// One sample.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub unix_ns: i64,
    pub boot_ns: i64,
    files: Vec<(String, String)>,
}

impl Sample {
    /// What was in a file; empty when it could not be read.
    pub fn file(&self, path: &str) -> &str {
        self.files.iter().find(|(name, _)| name == path).map_or("", |(_, text)| text)
    }

    /// Whether a file could be read.
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|(name, _)| name == path)
    }

    /// All files that could be read, with what was in them.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

/// The samples of one file.
pub struct Reader<R> {
    lines: Lines<Counted<R>>,
    at: Rc<Cell<u64>>,
    /// The stamp of the sample that comes next.
    next: Option<(i64, i64)>,
    /// How many files a whole sample has: those of the one before.
    files: usize,
    /// Samples that were handed out.
    pub whole: u64,
    /// Samples that were not whole.
    pub cut: u64,
    /// Where the last whole sample ends, in bytes from the beginning.
    pub end: u64,
}

impl<R: BufRead> Reader<R> {
    /// The samples in `reader`, of so many files.
    pub fn new(reader: R, files: usize) -> Self {
        let at = Rc::new(Cell::new(0));
        let lines = Lines::new(Counted { inner: reader, at: Rc::clone(&at) });
        Self { lines, at, next: None, files, whole: 0, cut: 0, end: 0 }
    }

    /// The next whole sample.
    pub fn next_sample(&mut self) -> io::Result<Option<Sample>> {
        loop {
            let (unix_ns, boot_ns) = match self.next.take() {
                Some(stamp) => stamp,
                None => match self.seek()? {
                    Some(stamp) => stamp,
                    None => return Ok(None),
                },
            };
            let mut sample = Sample { unix_ns, boot_ns, files: Vec::new() };
            if let Some(end) = self.fill(&mut sample)? {
                self.end = end;
                self.files = sample.files.len();
                self.whole += 1;
                return Ok(Some(sample));
            }
            self.cut += 1;
        }
    }

    /// Whether something is missing at the end of the file, or had not reached the disk.
    pub const fn torn(&self) -> bool {
        self.cut > 0 || self.lines.torn()
    }

    /// The stamp of the next sample, wherever that is.
    fn seek(&mut self) -> io::Result<Option<(i64, i64)>> {
        while let Some(line) = self.lines.next_text()? {
            if let Some(stamp) = stamp(&line) {
                return Ok(Some(stamp));
            }
        }
        Ok(None)
    }

    /// Reads the files of a sample, and where it ends; none when it is not whole.
    fn fill(&mut self, sample: &mut Sample) -> io::Result<Option<u64>> {
        loop {
            let end = self.at.get();
            let Some(line) = self.lines.next_text()? else {
                // The last one is whole if the file ends behind it. Where zeros follow, it has to have the files of the
                // one before it.
                let lacks_some = self.lines.torn() && sample.files.len() < self.files;
                return Ok((!sample.files.is_empty() && !lacks_some).then_some(end));
            };
            if let Some(stamp) = stamp(&line) {
                self.next = Some(stamp);
                return Ok((!sample.files.is_empty()).then_some(end));
            }
            let head = line.strip_prefix("@ ").and_then(|rest| rest.rsplit_once(' '));
            let Some((path, Ok(count))) = head.map(|(path, count)| (path, count.parse::<usize>())) else {
                // A file that does not end its last line is followed by one of the client's.
                if line.is_empty() {
                    continue;
                }
                return Ok(None);
            };
            let Some(bytes) = self.lines.next_bytes(count, LONGEST_FILE)? else { return Ok(None) };
            // There are none in these files; it is what had not reached the disk.
            if bytes.contains(&0) {
                return Ok(None);
            }
            if sample.files.len() < MOST_FILES {
                sample.files.push((path.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# 10 1\n@ /a 4\nx y\n@ /b 0\n# 20 2\n@ /a 6\n# 9 9\n";

    fn read(bytes: &[u8]) -> (Vec<Sample>, u64) {
        let mut reader = Reader::new(bytes, 1);
        let mut samples = Vec::new();
        while let Some(sample) = reader.next_sample().unwrap() {
            samples.push(sample);
        }
        (samples, reader.cut)
    }

    #[test]
    fn content_is_counted_and_not_looked_at() {
        let (samples, cut) = read(FILE.as_bytes());
        assert_eq!((samples.len(), cut), (2, 0));
        assert_eq!((samples[0].unix_ns, samples[0].boot_ns), (10, 1));
        assert_eq!((samples[0].file("/a"), samples[0].file("/b"), samples[0].file("/c")), ("x y\n", "", ""));
        assert_eq!(samples[1].file("/a"), "# 9 9\n");
    }

    #[test]
    fn a_sample_that_is_damaged_costs_only_itself() {
        let (samples, cut) = read(b"# 10 1\n@ /a 2\nx\n# 20 2\ngarbage\n# 30 3\n@ /a 2\nz\n");
        assert_eq!(samples.iter().map(|s| s.unix_ns).collect::<Vec<_>>(), [10, 30]);
        assert_eq!(cut, 1);
    }

    #[test]
    fn what_had_not_reached_the_disk_is_no_sample() {
        let (samples, cut) = read(b"# 10 1\n@ /a 2\nx\n# 20 2\n@ /a 5\ny\n\0\0\0# 30 3\n@ /a 2\nz\n\0\0\0\0");
        assert_eq!(samples.iter().map(|s| s.unix_ns).collect::<Vec<_>>(), [10, 30]);
        assert_eq!(cut, 1);
    }

    #[test]
    fn the_end_of_the_last_whole_sample_is_known() {
        let end = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes, 1);
            while reader.next_sample().unwrap().is_some() {}
            reader.end as usize
        };
        let whole = b"# 10 1\n@ /a 2\nx\n# 20 2\n@ /a 2\ny\n";
        assert_eq!(end(whole), whole.len());
        for rest in ["# 30 3\n@ /a 9\nz\n", "# 30 3\n", "\0\0\0"] {
            assert_eq!(end(&[whole, rest.as_bytes()].concat()), whole.len(), "{rest:?}");
        }
        assert_eq!(end(b"# 10 1\n@ /a 9\n"), 0);
    }

    #[test]
    fn a_length_that_is_a_lie_does_not_fill_the_memory() {
        assert_eq!(read(b"# 10 1\n@ /a 99999999999999\nx\n"), (vec![], 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..FILE.len()) {
            read(&bytes);
            read(&[&FILE.as_bytes()[..at], &bytes[..]].concat());
        }
    }
}
