//! Tables over several segments: one file with a break where there was no data.
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
};

use camino::{Utf8Path, Utf8PathBuf};

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
