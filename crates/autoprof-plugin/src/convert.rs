//! Helpers for converters: from the raw files of a tool to CSV, in bounded memory, whatever the files hold.
//!
//! What all tables have in common, so that the report can put any two of them on one axis: the first column is
//! `time_unix` (seconds since 1970-01-01 UTC with six decimals), units are in the names of the columns, a cell that is
//! not known is empty, and rows are in the order of time. [`TableWriter`] sees to that; [`TimeAxis`] finds the
//! instants of tools that print whole seconds; [`Lines`] reads text that may be cut short or never end its line.
mod column;
pub mod json;
mod series;
mod table;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

use autoprof_core::{
    RawResults,
    error::{ConvertError, ConvertErrorKind},
};

pub use self::{
    column::{any_quantity, percent_of_all_cpus},
    table::TableWriter,
};

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;

/// The longest line that [`Lines`] hands out, in bytes.
pub const LONGEST_LINE: usize = 1 << 20;

/// Opens one of the raw files.
///
/// # Errors
/// When it cannot be opened; the message names it.
pub fn open(raw: &RawResults, file: &str) -> Result<BufReader<File>, ConvertError> {
    let file_error = |e: &io::Error| ConvertError::caused(ConvertErrorKind::Io, format!("cannot read {file}"), e);
    let opened = File::open(raw.file(file)).map_err(|e| file_error(&e))?;
    // Reading a FIFO would wait for ever.
    if !opened.metadata().map_err(|e| file_error(&e))?.is_file() {
        return Err(ConvertError::new(ConvertErrorKind::Format, format!("{file} is not a plain file")));
    }
    Ok(BufReader::with_capacity(64 << 10, opened))
}

/// Nanoseconds since 1970 as seconds with six decimals, never with an exponent.
#[must_use]
pub fn unix_seconds(unix_ns: i64) -> String {
    let micros = unix_ns.div_euclid(1000);
    let (sign, micros) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Seconds as nanoseconds; what is not a sensible number of seconds is 0.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "checked to be far below the limits of i64")]
pub fn nanoseconds(seconds: f64) -> i64 {
    if seconds.is_finite() && seconds.abs() < 4e9 { (seconds * 1e9).round() as i64 } else { 0 }
}

/// The seconds since 1970 of a date and time in UTC, written `2026-11-22 21:58:52`; a `T` may stand between them and
/// anything may follow.
#[must_use]
pub fn utc_date_time(text: &str) -> Option<i64> {
    let civil: jiff::civil::DateTime = text.get(..19)?.parse().ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?.as_second())
}

/// The seconds since midnight of a time of day, written `21:58:52`; anything may follow.
#[must_use]
pub fn time_of_day(text: &str) -> Option<i64> {
    let mut parts = text.get(..8)?.split(':').map(|part| part.parse::<u8>().ok());
    match (parts.next()??, parts.next()??, parts.next()??) {
        (h @ 0..24, m @ 0..60, s @ 0..=60) => Some(i64::from(h) * 3600 + i64::from(m) * 60 + i64::from(s)),
        _ => None,
    }
}

/// A number as a cell: with at most six decimals and no exponent; empty when it is not finite.
#[must_use]
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return String::new();
    }
    let mut text = format!("{x:.6}");
    let kept = text.trim_end_matches('0').trim_end_matches('.').len();
    text.truncate(kept);
    if text == "-0" { "0".to_owned() } else { text }
}

/// Puts the rows of tools that print whole seconds at the fractions of seconds where they belong.
///
/// vmstat, iostat and their like print, at the end of each interval, a time without fractions. Taken as it is, a row
/// would be up to a second too early, by another amount on every host. But such a tool sleeps for its interval from
/// where it began, and when that was is known exactly: sample *k* (from 0) ends at about `began + (k + 1) × interval`.
/// That instant is right to some milliseconds as long as it lies within the second that the tool displays; where it
/// does not (the tool was late, the host slept, the clock was set), the nearest instant within the displayed second
/// is taken and the axis goes on from there. So a row is never off by more than the tool's own second.
#[derive(Debug, Clone)]
pub struct TimeAxis {
    interval: i64,
    last: i64,
    /// How far the clock by which the tool prints may be ahead of the axis: nothing, and what the jumps so far add up to.
    offsets: Vec<i64>,
}

impl TimeAxis {
    /// The axis of a tool that was begun at `raw.began_unix_ns` with this interval.
    #[must_use]
    pub fn new(raw: &RawResults, interval_seconds: f64) -> Self {
        let jumps = raw.clock_steps.iter().scan(0_i64, |sum, step| {
            *sum = sum.saturating_add(step.step_ns);
            Some(*sum)
        });
        let offsets = std::iter::once(0).chain(jumps).collect();
        Self { interval: nanoseconds(interval_seconds), last: raw.began_unix_ns, offsets }
    }

    /// Of the instants that could be meant, where somebody set the clock, the one nearest to what is expected.
    fn nearest(&self, distance: impl Fn(i64) -> i64) -> i64 {
        self.offsets.iter().copied().min_by_key(|offset| distance(*offset).saturating_abs()).unwrap_or(0)
    }

    /// The instant of the next sample of a tool that prints fractions of seconds: what it printed, less what the host's
    /// clock was set ahead meanwhile.
    pub fn place_exact(&mut self, printed_ns: i64) -> i64 {
        let expected = self.last.saturating_add(self.interval);
        let ahead = |offset: i64| printed_ns.saturating_sub(offset).saturating_sub(expected);
        self.last = printed_ns.saturating_sub(self.nearest(ahead));
        self.last
    }

    /// The instant of the next sample, in nanoseconds since 1970, given the whole second that the tool displayed.
    pub fn place(&mut self, displayed: i64) -> i64 {
        let printed = displayed.saturating_mul(SECOND);
        let expected = self.last.saturating_add(self.interval);
        let ahead = |offset: i64| printed.saturating_sub(offset).saturating_sub(expected);
        let from = printed.saturating_sub(self.nearest(ahead));
        // Microseconds are what a table shows: the last of them is still within the second.
        let to = from.saturating_add(SECOND - 1000);
        self.last = self.last.saturating_add(self.interval).clamp(from, to);
        self.last
    }

    /// The same for a tool that displays the time of day alone, as seconds since midnight UTC: the day is the one
    /// that comes nearest to where the sample is expected.
    pub fn place_in_day(&mut self, since_midnight: i64) -> i64 {
        const DAY: i64 = 24 * 3600;
        let expected = self.last.saturating_add(self.interval).div_euclid(SECOND);
        let ahead = |offset: i64| {
            let behind = expected.saturating_add(offset.div_euclid(SECOND));
            since_midnight.saturating_sub(behind).saturating_add(DAY / 2).rem_euclid(DAY) - DAY / 2
        };
        let offset = self.nearest(ahead);
        self.place(expected.saturating_add(offset.div_euclid(SECOND)).saturating_add(ahead(offset)))
    }
}

/// Reads text line by line; what has no end of line is not handed out, and no line makes memory grow without bound.
///
/// Nor is a line with several NUL bytes in a row: a file system whose machine lost its power leaves those where the size
/// of a file had reached the disk and its content had not. A single one within a line is the tool's (pidstat of sysstat
/// 11.6.0 prints one behind each percentage), and is left out, as are the colors of a tool that was told to print them.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    cut: bool,
    unwritten: u64,
    too_long: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`.
    pub const fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), cut: false, unwritten: 0, too_long: 0 }
    }

    /// The next whole line without its end; lines longer than [`LONGEST_LINE`] are left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut overlong = false;
        let mut unwritten = false;
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                self.cut |= overlong || unwritten || !self.line.is_empty();
                return Ok(None);
            }
            let end = chunk.iter().position(|b| *b == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            unwritten |= has_zeros(self.line.last().copied(), part);
            overlong |= !unwritten && self.line.len() + part.len() > LONGEST_LINE;
            if overlong || unwritten {
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_none() {
                continue;
            }
            unwritten |= self.line.first() == Some(&0) || self.line.last() == Some(&0);
            if !overlong && !unwritten {
                clean(&mut self.line);
                return Ok(Some(&self.line));
            }
            self.too_long += u64::from(!unwritten);
            self.unwritten += u64::from(unwritten);
            (overlong, unwritten) = (false, false);
        }
    }

    /// The next whole line as text, with a mark for what is not UTF-8.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_text(&mut self) -> io::Result<Option<String>> {
        Ok(self.next_line()?.map(|line| String::from_utf8_lossy(line).into_owned()))
    }

    /// Exactly so many bytes that are not lines; none when the file ends before, or they are more than `most`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_bytes(&mut self, count: usize, most: usize) -> io::Result<Option<Vec<u8>>> {
        if count > most {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                self.cut = true;
                return Ok(None);
            }
            let used = chunk.len().min(count - bytes.len());
            bytes.extend_from_slice(&chunk[..used]);
            self.reader.consume(used);
        }
        Ok(Some(bytes))
    }

    /// Whether a line, or bytes that were asked for, have turned out to be missing: the file is torn.
    #[must_use]
    pub const fn torn(&self) -> bool {
        self.cut || self.unwritten > 0
    }

    /// What was left out so far, for the table's warnings.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let cut = self.cut.then(|| "the last line is cut short and was left out".to_owned());
        let unwritten = (self.unwritten > 0)
            .then(|| format!("{} lines whose content had not reached the disk were left out", self.unwritten));
        let long = (self.too_long > 0).then(|| format!("{} overlong lines were left out", self.too_long));
        cut.into_iter().chain(unwritten).chain(long)
    }
}

/// Whether there are two NUL bytes in a row; one may be the last before these.
fn has_zeros(before: Option<u8>, bytes: &[u8]) -> bool {
    (before == Some(0) && bytes.first() == Some(&0)) || bytes.windows(2).any(|pair| pair == [0, 0])
}

/// Removes single NUL bytes, and what sets the colors of a terminal: `ESC [ … m` and the like (ECMA-48, 5.4).
fn clean(line: &mut Vec<u8>) {
    const ESCAPE: u8 = 0x1b;
    if !line.iter().any(|byte| matches!(*byte, 0 | ESCAPE)) {
        return;
    }
    let mut kept = Vec::with_capacity(line.len());
    let mut rest = line.as_slice();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let parameters = behind.strip_prefix(b"[").filter(|_| *byte == ESCAPE);
        let sequence = parameters.and_then(|text| {
            let end = text.iter().position(|byte| !(0x20..0x40).contains(byte))?;
            (0x40..0x7f).contains(&text[end]).then(|| &text[end + 1..])
        });
        match sequence {
            Some(behind) => rest = behind,
            None if *byte != 0 => kept.push(*byte),
            None => {}
        }
    }
    *line = kept;
}

/// Places the client's samples on the time axis of a table: by the clock since boot, which goes on evenly when somebody
/// sets the other one.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootAxis {
    first: Option<(i64, i64)>,
}

impl BootAxis {
    /// The instant of a sample with this [`stamp`], in nanoseconds since 1970.
    pub fn place(&mut self, (unix_ns, boot_ns): (i64, i64)) -> i64 {
        let (unix, boot) = *self.first.get_or_insert((unix_ns, boot_ns));
        unix.saturating_add(boot_ns.saturating_sub(boot))
    }
}

/// The line that the client writes before each sample and each poll, `# <unix ns> <boot ns>`; none: it is another one.
#[must_use]
pub fn stamp(line: &str) -> Option<(i64, i64)> {
    let (unix, boot) = line.strip_prefix("# ")?.split_once(' ')?;
    Some((unix.parse().ok()?, boot.parse().ok()?))
}

/// A bucket of a histogram whose limits are powers of two, by the least number in it: `0`, `1`, `2-3`, `4-7`, …
#[must_use]
pub fn bucket(least: u64) -> String {
    if least < 2 { least.to_string() } else { format!("{least}-{}", least.saturating_mul(2) - 1) }
}

#[cfg(test)]
mod tests {
    use autoprof_core::ClockStep;

    use super::*;
    use autoprof_core::{Args, protocol::HostFacts};

    fn raw(began_unix_ns: i64, ended_unix_ns: i64) -> RawResults {
        RawResults {
            directory: "/nonexistent".into(),
            args: Args::new(),
            began_unix_ns,
            ended_unix_ns,
            facts: HostFacts::default(),
            clock_steps: Vec::new(),
            end_unknown: false,
        }
    }

    #[test]
    fn buckets_and_stamps_are_written_and_read_as_everywhere() {
        assert_eq!([0, 1, 2, 4, 1 << 20].map(bucket), ["0", "1", "2-3", "4-7", "1048576-2097151"]);
        assert_eq!(stamp("# 10 -1"), Some((10, -1)));
        for other in ["#10 1", "# 10", "# x 1", "# 10 1 2", "@ /a 1"] {
            assert_eq!(stamp(other), None, "{other}");
        }
    }

    #[test]
    fn instants_have_six_decimals_and_no_exponent() {
        assert_eq!(unix_seconds(1_795_384_731_475_658_219), "1795384731.475658");
        assert_eq!(unix_seconds(0), "0.000000");
        assert_eq!(unix_seconds(-1), "-0.000001");
        assert_eq!(unix_seconds(-1_500_000_000), "-1.500000");
    }

    #[test]
    fn numbers_have_no_exponent_and_no_needless_zeros() {
        assert_eq!(number(1e15), "1000000000000000");
        assert_eq!(number(0.1 + 0.2), "0.3");
        assert_eq!(number(1e-9), "0");
        assert_eq!(number(-1e-9), "0");
        assert_eq!(number(f64::NAN), "");
    }

    #[test]
    fn dates_and_times_of_tools_are_read_as_utc() {
        assert_eq!(utc_date_time("2026-11-22 21:58:52"), Some(1_795_384_732));
        assert_eq!(utc_date_time("2026-11-22T21:58:52+0000"), Some(1_795_384_732));
        assert_eq!(utc_date_time("2026-13-22 21:58:52"), None);
        assert_eq!(utc_date_time("ä"), None);
        assert_eq!(time_of_day("21:58:52"), Some(79_132));
        assert_eq!(time_of_day("24:00:00"), None);
        assert_eq!(time_of_day("1:2:3"), None);
    }

    #[test]
    fn whole_seconds_are_placed_where_the_tool_really_was() {
        // Began at .4, so each row ends at .4, which is within the second that is displayed.
        let mut axis = TimeAxis::new(&raw(100 * SECOND + 400_000_000, 200 * SECOND), 1.0);
        assert_eq!(axis.place(101), 101_400_000_000);
        assert_eq!(axis.place(102), 102_400_000_000);
        // Late by a second: the nearest instant within the displayed second, and on from there.
        assert_eq!(axis.place(104), 104_000_000_000);
        assert_eq!(axis.place(105), 105_000_000_000);
    }

    #[test]
    fn a_clock_that_is_set_moves_no_row() {
        const HOUR: i64 = 3600 * SECOND;
        let step = |at: i64, step_ns| ClockStep { at_unix_ns: at * SECOND, step_ns };
        let steps = vec![step(102, HOUR), step(104, -2 * HOUR - SECOND / 2)];
        let raw = RawResults { clock_steps: steps, ..raw(100 * SECOND + 400_000_000, 200 * SECOND) };
        let mut axis = TimeAxis::new(&raw, 1.0);
        let printed = [101, 102, 103 + 3600, 104 + 3600, 104 - 3600, 105 - 3600, 107 - 3600];
        let placed = printed.map(|second| axis.place(second) / (SECOND / 10));
        assert_eq!(placed, [1014, 1024, 1034, 1044, 1054, 1064, 1075]);
        let mut axis = TimeAxis::new(&raw, 1.0);
        let of_day = printed.map(|second: i64| axis.place_in_day(second.rem_euclid(24 * 3600)) / (SECOND / 10));
        assert_eq!(of_day, placed);
    }

    #[test]
    fn a_clock_that_is_set_moves_no_instant_with_fractions() {
        let step = ClockStep { at_unix_ns: 102 * SECOND, step_ns: 3600 * SECOND };
        let raw = RawResults { clock_steps: vec![step], ..raw(100 * SECOND, 200 * SECOND) };
        let mut axis = TimeAxis::new(&raw, 1.0);
        let printed = [101.25, 102.25, 3703.5, 3704.5].map(|seconds| axis.place_exact(nanoseconds(seconds)));
        assert_eq!(printed, [101.25, 102.25, 103.5, 104.5].map(nanoseconds));
    }

    #[test]
    fn times_of_day_go_past_midnight() {
        let midnight = 20_000 * 24 * 3600;
        let mut axis = TimeAxis::new(&raw((midnight - 2) * SECOND, 0), 1.0);
        assert_eq!(axis.place_in_day(24 * 3600 - 1), (midnight - 1) * SECOND);
        assert_eq!(axis.place_in_day(0), midnight * SECOND);
        assert_eq!(axis.place_in_day(1), (midnight + 1) * SECOND);
    }

    #[test]
    fn text_cells_are_no_formulas_and_numbers_stay() {
        let directory = std::env::temp_dir().join(format!("autoprof-cells-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let raw = RawResults { directory: directory.to_str().unwrap().into(), ..raw(0, 10 * SECOND) };
        let mut table = TableWriter::create(&raw, "t.csv", 1.0, &["name", "=load"]).unwrap();
        for (name, load) in [("=cmd|' /C calc'!A0", "-1.5"), ("@x", "+2"), ("a\u{1b}[2J", "3"), ("-", "-1e3")] {
            table.row(raw.began_unix_ns, [name, load]).unwrap();
        }
        assert_eq!(table.finish().unwrap().rows, 4);
        let text = std::fs::read_to_string(directory.join("t.csv")).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let cells: Vec<&str> = text.lines().filter_map(|line| line.split_once(',')).map(|(_, cells)| cells).collect();
        assert_eq!(cells, ["name,'=load", "'=cmd|' /C calc'!A0,-1.5", "'@x,+2", "a\u{fffd}[2J,3", "-,-1e3"]);
    }

    #[test]
    fn rows_from_outside_the_run_or_back_in_time_are_left_out_and_counted() {
        let directory = std::env::temp_dir().join(format!("autoprof-convert-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let raw = RawResults {
            directory: directory.to_str().unwrap().into(),
            ..raw(1_000_000_000 * SECOND, 1_000_000_010 * SECOND)
        };
        let mut table = TableWriter::create(&raw, "t.csv", 1.0, &["a", "b"]).unwrap();
        for second in [999_999_999, 1_000_000_001, 1_000_000_003, 1_000_000_002, 1_000_000_011, 1_000_000_012] {
            table.row(second * SECOND, [format!("{}", second % 100), "x,y".into(), "too many".into()]).unwrap();
        }
        table.row(1_000_000_011 * SECOND, ["few"]).unwrap();
        let table = table.finish().unwrap();
        assert_eq!(table.incomplete.as_deref(), Some("no samples for 8.0 s: expected 11 samples, got 3"));
        let text = std::fs::read_to_string(directory.join("t.csv")).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(
            text,
            "time_unix,a,b\n1000000001.000000,1,\"x,y\"\n1000000003.000000,3,\"x,y\"\n\
             1000000011.000000,11,\"x,y\"\n1000000011.000000,few,\n"
        );
        assert_eq!(table.rows, 4);
        let left_out = ["2 rows from outside the run were left out", "1 rows that went back in time were left out"];
        assert_eq!(table.warnings[..2], left_out);
    }

    #[test]
    fn a_line_without_an_end_is_left_out_with_a_warning() {
        let mut lines = Lines::new(&b"one\n\ntwo\nthr"[..]);
        let mut seen = Vec::new();
        while let Some(line) = lines.next_text().unwrap() {
            seen.push(line);
        }
        assert_eq!(seen, ["one", "", "two"]);
        assert_eq!(lines.warnings().count(), 1);
    }

    #[test]
    fn what_had_not_reached_the_disk_is_left_out_with_a_warning() {
        let mut lines = Lines::new(&b"one\ntw\0\0\0\0\0\nthree\nfour\n\0\0\0\0"[..]);
        let mut seen = Vec::new();
        while let Some(line) = lines.next_text().unwrap() {
            seen.push(line);
        }
        assert_eq!(seen, ["one", "three", "four"]);
        assert!(lines.torn());
        assert_eq!(lines.warnings().count(), 2);
    }

    #[test]
    fn single_zeros_and_colors_are_not_part_of_a_line() {
        let text = b"0.20\0    1\n\x1b[1;31m7\x1b[0m \x1b[K8\n\x1b]0;x\x07 \x1b[\n";
        let mut lines = Lines::new(BufReader::with_capacity(3, &text[..]));
        let seen: Vec<String> = std::iter::from_fn(|| lines.next_text().unwrap()).collect();
        assert_eq!(seen, ["0.20    1", "7 8", "\x1b]0;x\x07 \x1b["], "what is no whole sequence stays");
        assert!(!lines.torn());
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut bytes = vec![b'x'; 3 * LONGEST_LINE];
        bytes.extend_from_slice(b"\nshort\n");
        let mut lines = Lines::new(BufReader::new(&bytes[..]));
        assert_eq!(lines.next_text().unwrap().as_deref(), Some("short"));
        assert_eq!(lines.next_text().unwrap(), None);
        assert_eq!(lines.warnings().collect::<Vec<_>>(), ["1 overlong lines were left out"]);
    }
}
