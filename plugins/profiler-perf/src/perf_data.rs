//! `perf.data` whose writer was killed: everything that perf had written is there, but what it writes last is not.
//!
//! perf writes a header, the attributes of its events, then records as they come. Only at its end it goes back to the
//! header and writes how many bytes of records there are, and behind the records a section for each feature (build
//! ids, the host's name, formats of tracepoints). `perf report` refuses a file without that. What can be done is to walk
//! from record to record to the last whole one and to write its end into the header of a copy; features are lost.
//! (`Documentation/perf.data-file-format.txt`, `util/header.h` and `util/event.h` in `tools/perf` of the kernel.)
//!
//! Only sizes and types of records are looked at. The file comes from a host that is not trusted: nothing in it is taken
//! for a length to allocate, and each step goes forward.
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
};

/// The header of a file; one that was written to a pipe has only the first two words.
const HEADER: usize = 104;
const PIPE_HEADER: u64 = 16;

/// Where in the header things stand: what an attribute takes, where attributes and records are, which features there are.
const ATTR_SIZE: usize = 16;
const ATTRS: usize = 24;
const DATA: usize = 40;
const FEATURES: usize = 72;

/// Bytes in front of each record: type, flags, size.
const RECORD_HEADER: u64 = 8;

/// The records that need more than a step over them (`enum perf_event_type`, `enum perf_user_event_type`).
const SAMPLE: u32 = 9;
const TRACING_DATA: u32 = 66;
const AUXTRACE: u32 = 71;
const COMPRESSED: u32 = 81;
const COMPRESSED2: u32 = 83;
/// Types are handed out from 1 for the kernel and from 64 for perf, which is at 84 in 6.17.
const HIGHEST_TYPE: u32 = 127;

/// The feature that says how records were compressed; perf cannot decompress without it.
const FEATURE_COMPRESSED: usize = 27;
/// The highest feature that there may be.
const MOST_FEATURES: usize = 256;

/// A buffer for what one compressed record becomes. The real size was to be written at the end; perf's own is 516 KiB
/// unless it was asked for more. It is address space that perf reserves, not memory.
const DECOMPRESSED: u32 = 8 << 20;

/// The type of an event that is a tracepoint, and that of a number that the CPU's counters are given as it is.
const TYPE_TRACEPOINT: u32 = 2;
const TYPE_RAW: u32 = 4;
/// How many events perf may have been given.
const MOST_EVENTS: u64 = 100_000;

/// What was found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// perf wrote it to its end.
    Whole,
    /// It was not, and a copy was written that can be read.
    Repaired(Saved),
    /// There is nothing in it that could be saved.
    Nothing(&'static str),
}

/// What was saved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Samples.
    pub samples: u64,
    /// Records that were compressed, in which further samples are.
    pub compressed: u64,
    /// Events that were tracepoints, of which only the number is known now.
    pub tracepoints: u64,
    /// Bytes behind the last whole record, which were left out.
    pub left_out: u64,
}

/// The order of bytes on the host that wrote the file.
#[derive(Debug, Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn of(header: &[u8]) -> Option<Self> {
        match header.get(..8)? {
            b"PERFILE2" => Some(Self::Little),
            b"2ELIFREP" => Some(Self::Big),
            _ => None,
        }
    }

    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let word = array(bytes, at);
        match self {
            Self::Little => u16::from_le_bytes(word),
            Self::Big => u16::from_be_bytes(word),
        }
    }

    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = array(bytes, at);
        match self {
            Self::Little => u32::from_le_bytes(word),
            Self::Big => u32::from_be_bytes(word),
        }
    }

    fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let word = array(bytes, at);
        match self {
            Self::Little => u64::from_le_bytes(word),
            Self::Big => u64::from_be_bytes(word),
        }
    }

    fn of_u32(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn of_u64(self, number: u64) -> [u8; 8] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }
}

/// Some bytes of a slice; what is not there is 0.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(there) = bytes.get(at..at + N) {
        out.copy_from_slice(there);
    }
    out
}

/// Looks whether a file is whole, and writes what is whole of one that is not to what `create` gives.
///
/// # Errors
/// When one file cannot be read, or the other one not be written.
pub fn repair(from: &mut File, create: impl FnOnce() -> io::Result<File>) -> io::Result<Found> {
    let length = from.metadata()?.len();
    let mut header = Vec::new();
    from.rewind()?;
    from.take(HEADER as u64).read_to_end(&mut header)?;
    let Some(order) = Order::of(&header).filter(|_| header.len() as u64 >= PIPE_HEADER) else {
        return Ok(Found::Nothing("its header is not one of perf"));
    };
    let piped = order.u64(&header, 8) == PIPE_HEADER;
    if !piped && (header.len() < HEADER || order.u64(&header, 8) != HEADER as u64) {
        return Ok(Found::Nothing("its header is cut, or not one that is known"));
    }
    let layout = Layout { order, header, length, piped };
    if layout.is_whole(from)? {
        return Ok(Found::Whole);
    }
    let Some(begin) = layout.begin(from)? else { return Ok(Found::Nothing("its events are not described whole")) };
    let walked = walk(from, begin, layout.end(), &layout)?;
    let saved = Saved { left_out: length - walked.end, ..walked.saved };
    if piped && walked.end == length {
        return Ok(Found::Whole);
    }
    if walked.end == begin {
        return Ok(Found::Nothing("it has no whole record"));
    }
    let tracepoints = layout.write(from, create()?, begin, &walked)?;
    Ok(Found::Repaired(Saved { tracepoints, ..saved }))
}

/// A file and its header.
struct Layout {
    order: Order,
    header: Vec<u8>,
    length: u64,
    piped: bool,
}

impl Layout {
    /// A place in the file, if it is within: where it begins and where it ends.
    fn section(&self, bytes: &[u8], at: usize) -> Option<(u64, u64)> {
        let (offset, size) = (self.order.u64(bytes, at), self.order.u64(bytes, at + 8));
        Some((offset, offset.checked_add(size)?)).filter(|(_, end)| *end <= self.length)
    }

    /// Whether perf wrote the file to its end, and all of it is here.
    fn is_whole(&self, file: &mut File) -> io::Result<bool> {
        let Some((begin, end)) = self.section(&self.header, DATA).filter(|(begin, end)| !self.piped && end > begin)
        else {
            return Ok(false);
        };
        let features: u32 = self.header[FEATURES..].iter().map(|byte| byte.count_ones()).sum();
        if features == 0 {
            return Ok(!is_unwritten(file, begin, end)?);
        }
        let mut table = Vec::new();
        file.seek(SeekFrom::Start(end))?;
        file.take(16 * MOST_FEATURES as u64).read_to_end(&mut table)?;
        for place in 0..features as usize {
            let there = table.len() >= 16 * (place + 1);
            let Some((begin, end)) = self.section(&table, 16 * place).filter(|_| there) else { return Ok(false) };
            // A section of a few zeros is a number of things that there are none of.
            let unwritten = end - begin > 16 && is_unwritten(file, begin, end)?;
            // One at the beginning of the file is where the table itself was not written.
            if unwritten || begin < self.order.u64(&self.header, DATA) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where records begin; none when what describes them is not whole.
    fn begin(&self, file: &mut File) -> io::Result<Option<u64>> {
        if self.piped {
            return Ok(Some(PIPE_HEADER));
        }
        let begin = self.order.u64(&self.header, DATA);
        let attrs = self.section(&self.header, ATTRS).filter(|(from, to)| to > from);
        let Some((from, to)) = attrs.filter(|(from, to)| *from >= HEADER as u64 && *to <= begin) else {
            return Ok(None);
        };
        if begin > self.length || self.stride().is_none_or(|stride| (to - from) % stride != 0) {
            return Ok(None);
        }
        let mut whole = true;
        self.each_event(file, |attr| whole &= self.order.u32(attr, 4) > 0)?;
        Ok(whole.then_some(begin))
    }

    /// Where records end at the latest.
    fn end(&self) -> u64 {
        let declared = self.section(&self.header, DATA).filter(|(begin, end)| !self.piped && end > begin);
        declared.map_or(self.length, |(_, end)| end)
    }

    /// How many bytes an event's description takes.
    fn stride(&self) -> Option<u64> {
        Some(self.order.u64(&self.header, ATTR_SIZE)).filter(|size| (16..=4096).contains(size))
    }

    /// Hands out the first eight bytes of each event's description: type and size.
    fn each_event(&self, file: &mut File, mut each: impl FnMut(&[u8; 8])) -> io::Result<()> {
        let (Some((from, to)), Some(stride)) = (self.section(&self.header, ATTRS), self.stride()) else {
            return Ok(());
        };
        let mut reader = BufReader::new(file);
        for at in (from..to).step_by(usize::try_from(stride).unwrap_or(4096)).take(MOST_EVENTS as usize) {
            reader.seek(SeekFrom::Start(at))?;
            let mut attr = [0; 8];
            if !read_exactly(&mut reader, &mut attr)? {
                break;
            }
            each(&attr);
        }
        Ok(())
    }

    /// Writes what is whole; gives the number of tracepoints.
    fn write(&self, from: &mut File, mut to: File, begin: u64, walked: &Walked) -> io::Result<u64> {
        if self.piped {
            from.rewind()?;
            io::copy(&mut from.take(walked.end), &mut to)?;
            return Ok(0);
        }
        let mut header = self.header.clone();
        header[DATA + 8..DATA + 16].copy_from_slice(&self.order.of_u64(walked.end - begin));
        header[FEATURES..].fill(0);
        let is_compressed = walked.saved.compressed > 0;
        if is_compressed {
            // The bits are in words of 64, in the order of bytes of the host.
            let word = self.order.of_u64(1 << FEATURE_COMPRESSED);
            header[FEATURES..FEATURES + 8].copy_from_slice(&word);
        }
        to.write_all(&header)?;
        from.seek(SeekFrom::Start(HEADER as u64))?;
        // From file to file: the kernel copies, and shares blocks where it can.
        io::copy(&mut from.take(walked.end - HEADER as u64), &mut to)?;
        if is_compressed {
            let mut to = BufWriter::new(&to);
            let section = [walked.end + 16, 20].map(|number| self.order.of_u64(number));
            to.write_all(section.as_flattened())?;
            // Version 1, Zstandard, its usual level, a ratio that is for people only, and the size of a buffer.
            let description = [1, 1, 1, 1, DECOMPRESSED].map(|number| self.order.of_u32(number));
            to.write_all(description.as_flattened())?;
            to.flush()?;
        }
        self.rename_tracepoints(from, &mut to)
    }

    /// perf refuses a file with a tracepoint of which it has no format, and formats are a feature. As the bare number
    /// that it was in the kernel it is read, with its stacks and without its fields.
    fn rename_tracepoints(&self, from: &mut File, to: &mut File) -> io::Result<u64> {
        let Some((begin, _)) = self.section(&self.header, ATTRS) else { return Ok(0) };
        let stride = self.stride().unwrap_or(0);
        let mut places = Vec::new();
        let mut at = begin;
        self.each_event(from, |attr| {
            if self.order.u32(attr, 0) == TYPE_TRACEPOINT {
                places.push(at);
            }
            at += stride;
        })?;
        for place in &places {
            to.seek(SeekFrom::Start(*place))?;
            to.write_all(&self.order.of_u32(TYPE_RAW))?;
        }
        Ok(places.len() as u64)
    }
}

/// How far a walk came.
struct Walked {
    saved: Saved,
    /// Behind the last whole record.
    end: u64,
}

/// Goes from record to record, to the last one that ends before `limit`.
fn walk(file: &mut File, begin: u64, limit: u64, layout: &Layout) -> io::Result<Walked> {
    let Layout { order, piped, .. } = *layout;
    file.seek(SeekFrom::Start(begin))?;
    let mut reader = BufReader::with_capacity(256 << 10, &mut *file);
    let mut walked = Walked { saved: Saved::default(), end: begin };
    // The last record and its type, for what follows from zeros behind it.
    let mut last = (begin, 0);
    let mut header = [0; 16];
    while limit - walked.end >= RECORD_HEADER {
        let at = walked.end;
        reader.read_exact(&mut header[..8])?;
        let (kind, size) = (order.u32(&header, 0), u64::from(order.u16(&header, 6)));
        if kind == 0 || kind > HIGHEST_TYPE || size < RECORD_HEADER || size > limit - at {
            break;
        }
        let mut taken = RECORD_HEADER;
        let mut behind = 0;
        if (kind == AUXTRACE || (kind == TRACING_DATA && piped)) && size >= 16 {
            reader.read_exact(&mut header[8..])?;
            taken = 16;
            // What the record announces follows it and is not counted in its size.
            behind = match kind {
                AUXTRACE => order.u64(&header, 8),
                _ => u64::from(order.u32(&header, 8)).next_multiple_of(8),
            };
        }
        if behind > limit - at - size {
            break;
        }
        let step = i64::try_from(size - taken + behind).map_err(io::Error::other)?;
        reader.seek_relative(step)?;
        last = (at, kind);
        walked.end = at + size + behind;
        walked.saved.samples += u64::from(kind == SAMPLE);
        walked.saved.compressed += u64::from(matches!(kind, COMPRESSED | COMPRESSED2));
    }
    drop(reader);
    // Where zeros are up to the end, they may have begun in the last record already.
    let (at, kind) = last;
    if walked.end < limit && kind != 0 && is_unwritten(file, walked.end - 8, limit)? {
        walked.end = at;
        walked.saved.samples -= u64::from(kind == SAMPLE);
        walked.saved.compressed -= u64::from(matches!(kind, COMPRESSED | COMPRESSED2));
    }
    Ok(walked)
}

/// Whether there are only zeros in a part of a file, as where its size had reached the disk and its content had not.
fn is_unwritten(file: &mut File, from: u64, to: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(from))?;
    let mut rest = BufReader::with_capacity(64 << 10, file.take(to - from));
    loop {
        let chunk = io::BufRead::fill_buf(&mut rest)?;
        if chunk.is_empty() {
            return Ok(true);
        }
        if chunk.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        let used = chunk.len();
        io::BufRead::consume(&mut rest, used);
    }
}

/// Fills a buffer; false when the file ends before.
fn read_exactly(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file as perf leaves it when it is killed: one event, then records.
    fn killed(event: u32, records: &[Vec<u8>]) -> Vec<u8> {
        let begin = HEADER as u64 + 144;
        let mut file = b"PERFILE2".to_vec();
        for word in [HEADER as u64, 144, HEADER as u64, 144, begin, 0, 0, 0, 0x3ff4, 0, 0, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(event.to_le_bytes());
        file.extend(128u32.to_le_bytes());
        file.resize(usize::try_from(begin).unwrap(), 0);
        file.extend(records.concat());
        file
    }

    fn record(kind: u32, body: usize) -> Vec<u8> {
        let size = u16::try_from(8 + body).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &[0, 0], &size, &vec![0xff; body]].concat()
    }

    fn records() -> Vec<Vec<u8>> {
        let mut auxtrace = record(AUXTRACE, 40);
        auxtrace[8..16].copy_from_slice(&24u64.to_le_bytes());
        // Its data looks like a sample.
        auxtrace.extend(record(SAMPLE, 16));
        vec![record(1, 72), record(SAMPLE, 40), record(10, 48), auxtrace, record(SAMPLE, 8), record(SAMPLE, 65_520)]
    }

    fn repaired(bytes: &[u8]) -> (Found, Vec<u8>) {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(bytes).unwrap();
        let to = tempfile::tempfile().unwrap();
        let found = repair(&mut from, || to.try_clone()).unwrap();
        let mut written = Vec::new();
        (&to).rewind().unwrap();
        (&to).read_to_end(&mut written).unwrap();
        (found, written)
    }

    #[test]
    fn the_size_is_set_and_features_are_cleared() {
        let file = killed(1, &records());
        let (found, written) = repaired(&file);
        assert_eq!(found, Found::Repaired(Saved { samples: 3, ..Saved::default() }));
        assert_eq!(Order::Little.u64(&written, DATA + 8), file.len() as u64 - 248);
        assert_eq!(written[FEATURES..HEADER], [0; 32]);
        assert_eq!((&written[..48], &written[HEADER..]), (&file[..48], &file[HEADER..]));
        assert_eq!(repaired(&written).0, Found::Whole);
    }

    #[test]
    fn compressed_records_keep_what_perf_decompresses_them_with() {
        let (found, written) = repaired(&killed(1, &[record(COMPRESSED, 33)]));
        assert_eq!(found, Found::Repaired(Saved { compressed: 1, ..Saved::default() }));
        assert_eq!(written[FEATURES..FEATURES + 8], (1u64 << FEATURE_COMPRESSED).to_le_bytes());
        assert_eq!(repaired(&written).0, Found::Whole);
    }

    #[test]
    fn files_of_hosts_with_the_other_order_of_bytes_are_read() {
        let mut file = b"2ELIFREP".to_vec();
        for word in [HEADER as u64, 144, HEADER as u64, 144, 248, 0, 0, 0, 0, 0, 0, 0] {
            file.extend(word.to_be_bytes());
        }
        file.extend([0, 0, 0, 1, 0, 0, 0, 128]);
        file.resize(248, 0);
        file.extend([0, 0, 0, 9, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]);
        let (found, written) = repaired(&file);
        assert_eq!(found, Found::Repaired(Saved { samples: 1, left_out: 4, ..Saved::default() }));
        assert_eq!(Order::Big.u64(&written, DATA + 8), 16);
    }

    #[test]
    fn a_size_that_is_a_lie_is_where_records_end() {
        let mut lie = record(AUXTRACE, 40);
        lie[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let (found, _) = repaired(&killed(1, &[record(SAMPLE, 8), lie, record(SAMPLE, 8)]));
        assert!(matches!(found, Found::Repaired(Saved { samples: 1, .. })), "{found:?}");
        let (found, _) = repaired(&killed(1, &[record(SAMPLE, 8), vec![9, 0, 0, 0, 0, 0, 7, 0], record(SAMPLE, 8)]));
        assert!(matches!(found, Found::Repaired(Saved { samples: 1, .. })), "{found:?}");
    }

    #[test]
    fn what_is_not_of_perf_is_left_alone() {
        for bytes in [&b""[..], &[0; 4096], b"PERFILE2", &killed(1, &[])[..200], &killed(1, &[])] {
            assert!(matches!(repaired(bytes), (Found::Nothing(_), written) if written.is_empty()));
        }
    }

    proptest! {
        #[test]
        fn a_file_cut_anywhere_keeps_its_whole_records(
            at in 248usize..700, zeros in prop_oneof![Just(0usize), 70_000usize..80_000],
        ) {
            let records = records();
            let file = killed(1, &records);
            let at = at.min(file.len());
            let (found, written) = repaired(&[&file[..at], &vec![0; zeros]].concat());
            let mut end = 248;
            let ends: Vec<usize> = records.iter().map(|record| { end += record.len(); end }).collect();
            // Zeros at the end of a record may be its own, as long as they are not a whole word.
            let whole = ends.iter().filter(|end| **end <= at || (zeros > 0 && **end - at < 8)).count();
            if whole == 0 {
                prop_assert!(matches!(found, Found::Nothing(_)));
            } else {
                let Found::Repaired(saved) = found else { panic!("{found:?}") };
                prop_assert_eq!(written.len(), ends[whole - 1]);
                let kept = at.min(written.len());
                prop_assert_eq!(&written[HEADER..kept], &file[HEADER..kept]);
                prop_assert_eq!(saved.left_out as usize, at + zeros - ends[whole - 1]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), words: [u64; 12], at in 0usize..700,
        ) {
            repaired(&bytes);
            let file = killed(TYPE_TRACEPOINT, &records());
            repaired(&[&file[..at], &bytes[..]].concat());
            // Any offsets and sizes, small ones above all.
            for shift in [0, 40, 54, 60] {
                let header: Vec<u8> = words.iter().flat_map(|word| (word >> shift).to_le_bytes()).collect();
                repaired(&[b"PERFILE2", &header[..], &file[HEADER..]].concat());
                let size = (HEADER as u64).to_le_bytes();
                repaired(&[b"PERFILE2", &size[..], &header[8..], &file[HEADER..]].concat());
            }
        }
    }
}
