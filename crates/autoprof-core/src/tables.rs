//! What holds for the tables of every profiler, whoever wrote it: that data without rows is not taken for a result, and
//! that tables over several segments are one file with a break where there was no data.
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
};

use camino::{Utf8Path, Utf8PathBuf};

use crate::encoder::{RawResults, Table};

/// What the client keeps of a tool's standard error.
const STDERR: &str = "stderr.txt";

/// How much of the end of standard error is read to find its last line.
const STDERR_TAIL: u64 = 4096;

/// How many characters of that line are shown.
const MAX_STDERR: usize = 200;

/// How many files a reason names.
const MAX_NAMED: usize = 3;

/// Marks tables that have no row although the profiler left data: nothing understood is not a result.
///
/// No rows are a result where a table says so ([`Table::may_be_empty`]), where no file has anything in it, and where the
/// window had no room for a sample: the first one may be an interval late. `files` are the profiler's files that are not
/// empty.
pub fn require_rows(tables: &mut [Table], raw: &RawResults, files: &[String], interval_ns: i64) {
    let window = raw.ended_unix_ns.saturating_sub(raw.began_unix_ns);
    let without_rows = tables.iter().all(|table| table.rows == 0 && !table.may_be_empty && table.incomplete.is_none());
    let most = tables.iter().max_by_key(|table| table.rows).map(|table| (table.file.clone(), table.rows));
    if !without_rows {
        let Some((file, rows)) = most.filter(|(_, rows)| *rows > 0) else { return };
        for table in tables.iter_mut().filter(|table| table.rows == 0 && !table.may_be_empty) {
            if table.warnings.is_empty() {
                table.warnings.push(format!("no rows, while {file} has {rows}"));
            }
        }
        return;
    }
    let Some(first) = tables.first() else { return };
    let table = first.file.clone();
    if window < interval_ns.saturating_mul(2) && tables.iter().all(|table| table.warnings.is_empty()) {
        let than = if window < interval_ns { "shorter than one interval" } else { "shorter than two intervals" };
        tables.iter_mut().for_each(|table| table.warnings.push(format!("no rows: the window was {than}")));
        return;
    }
    let named: Vec<&str> = files.iter().map(String::as_str).filter(|file| *file != STDERR).collect();
    if named.is_empty() {
        return;
    }
    let more = if named.len() > MAX_NAMED { ", …" } else { "" };
    let names = named[..named.len().min(MAX_NAMED)].join(", ");
    let printed = last_printed(raw).map(|line| format!("; standard error ends with: {line}")).unwrap_or_default();
    let reason = format!("no data for {table} was found in {names}{more}{printed}");
    tables[0].incomplete = Some(reason);
}

/// The last line that the tool printed to standard error, shortened and without what a terminal acts on.
fn last_printed(raw: &RawResults) -> Option<String> {
    let path = raw.file(STDERR);
    // Opening a FIFO would wait for ever.
    let length = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(STDERR_TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(STDERR_TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(MAX_STDERR).map(|c| if c.is_control() { '?' } else { c }).collect())
}

/// Longest header that is compared.
const LONGEST_HEADER: u64 = 1 << 20;

/// Puts the rows of a later segment's table behind those of the profiler's own, with a row between them whose cells are
/// empty but for the first: who draws lines does not draw one over the gap, and who counts rows sees it.
///
/// `gap_at` is the instant of that row, in seconds since 1970. Where the profiler has no such table (its first segment
/// was lost), the later one's becomes it. Gives the rows that were added without the break; none when the tables have
/// different columns and cannot be one.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn join(own: &Utf8Path, later: &Utf8Path, gap_at: f64) -> io::Result<Option<u64>> {
    if !own.exists() {
        fs::copy(later, own)?;
        return Ok(Some(count(own)?.saturating_sub(1)));
    }
    let mut rows = BufReader::new(File::open(later)?);
    let header = header(&mut rows)?;
    if header != self::header(&mut BufReader::new(File::open(own)?))? {
        return Ok(None);
    }
    let columns = columns(&header);
    let fresh = Utf8PathBuf::from(format!("{own}.part"));
    fs::copy(own, &fresh)?;
    let added = (|| {
        let mut out = File::options().append(true).open(&fresh)?;
        writeln!(out, "{gap_at:.6}{}", ",".repeat(columns.saturating_sub(1)))?;
        io::copy(&mut rows, &mut out)?;
        fs::rename(&fresh, own)?;
        Ok(count(later)?.saturating_sub(1))
    })();
    added.inspect_err(|_: &io::Error| drop(fs::remove_file(&fresh))).map(Some)
}

fn header(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(from, LONGEST_HEADER).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn count(path: &Utf8Path) -> io::Result<u64> {
    let mut lines = 0;
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        line?;
        lines += 1;
    }
    Ok(lines)
}

/// Columns of a header; a comma in a quoted name is none.
fn columns(header: &str) -> usize {
    let mut quoted = false;
    1 + header
        .chars()
        .filter(|c| {
            quoted ^= *c == '"';
            *c == ',' && !quoted
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Args, protocol::HostFacts};

    const SECOND: i64 = 1_000_000_000;

    fn raw(directory: &tempfile::TempDir, seconds: i64) -> RawResults {
        RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: Args::new(),
            began_unix_ns: 0,
            ended_unix_ns: seconds * SECOND,
            end_unknown: false,
            facts: HostFacts::default(),
            clock_steps: Vec::new(),
        }
    }

    fn table(file: &str, rows: u64) -> Table {
        Table { file: file.to_owned(), rows, ..Table::default() }
    }

    #[test]
    fn data_without_a_row_is_incomplete_and_says_what_the_tool_printed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stderr.txt"), "first\nError: no\x1b[31m memory\n\n").unwrap();
        let files = ["x.json", "stderr.txt"].map(str::to_owned);
        let mut tables = [table("a.csv", 0), table("b.csv", 0)];
        require_rows(&mut tables, &raw(&dir, 10), &files, SECOND);
        let reason = "no data for a.csv was found in x.json; standard error ends with: Error: no?[31m memory";
        assert_eq!(tables[0].incomplete.as_deref(), Some(reason));
        assert_eq!(tables[1].incomplete, None, "one reason is enough");
    }

    #[test]
    fn a_table_without_rows_beside_others_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let mut tables = [table("a.csv", 0), table("b.csv", 7)];
        require_rows(&mut tables, &raw(&dir, 10), &["x.json".to_owned()], SECOND);
        assert_eq!(
            (tables[0].incomplete.as_deref(), tables[0].warnings[0].as_str()),
            (None, "no rows, while b.csv has 7")
        );
        assert!(tables[1].warnings.is_empty());
    }

    #[test]
    fn no_rows_are_a_result_where_nothing_was_there_or_nothing_happened() {
        let dir = tempfile::tempdir().unwrap();
        let judged = |table: Table, files: &[&str], seconds, interval_s| {
            let mut tables = [table];
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            require_rows(&mut tables, &raw(&dir, seconds), &files, interval_s * SECOND);
            let [table] = tables;
            (table.incomplete.is_some(), table.warnings)
        };
        assert_eq!(judged(table("a", 0), &["stderr.txt"], 10, 1), (false, vec![]), "no file has anything in it");
        let nothing = Table { may_be_empty: true, ..table("a", 0) };
        assert_eq!(judged(nothing, &["x"], 10, 1), (false, vec![]), "the converter says that nothing happened");
        let short = "no rows: the window was shorter than one interval".to_owned();
        assert_eq!(judged(table("a", 0), &["x"], 3, 5), (false, vec![short]));
        let hardly = "no rows: the window was shorter than two intervals".to_owned();
        assert_eq!(judged(table("a", 0), &["x"], 7, 5), (false, vec![hardly]));
        assert!(judged(table("a", 0), &["x"], 10, 5).0);
        let strange = Table { warnings: vec!["3 lines were left out".to_owned()], ..table("a", 0) };
        assert!(judged(strange, &["x"], 3, 5).0, "what is not understood is not too short");
    }

    #[test]
    fn the_gap_is_a_row_of_empty_cells() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Utf8PathBuf::from_path_buf(dir.path().join(name)).unwrap();
        fs::write(at("a"), "time_unix,\"x,y\",z\n1,2,3\n").unwrap();
        fs::write(at("b"), "time_unix,\"x,y\",z\n9,8,7\n10,1,2\n").unwrap();
        assert_eq!(join(&at("a"), &at("b"), 5.5).unwrap(), Some(2));
        let text = fs::read_to_string(at("a")).unwrap();
        assert_eq!(text, "time_unix,\"x,y\",z\n1,2,3\n5.500000,,\n9,8,7\n10,1,2\n");
    }

    #[test]
    fn a_table_that_was_lost_is_taken_from_the_later_segment_and_other_columns_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Utf8PathBuf::from_path_buf(dir.path().join(name)).unwrap();
        fs::write(at("b"), "time_unix,x\n9,8\n").unwrap();
        assert_eq!(join(&at("a"), &at("b"), 5.0).unwrap(), Some(1));
        fs::write(at("c"), "time_unix,y\n9,8\n").unwrap();
        assert_eq!(join(&at("a"), &at("c"), 5.0).unwrap(), None);
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "time_unix,x\n9,8\n");
    }
}
