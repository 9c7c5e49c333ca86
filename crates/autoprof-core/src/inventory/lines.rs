//! Files with a host a line: plain, or as pbench has them for `--remotes=@FILE`, where a comma and a label may follow.
//!
//! Source: pbench, agent/util-scripts/pbench-register-tool: `<hostname>[,<label>]`; an empty label is none, lines that
//! begin with # are comments, and more than one comma is an error.
use super::Inventory;
use crate::{
    groups::{Members, is_group_name},
    host::{BadHost, Host, MAX_EXPANSION, expand},
};

/// Reads a host, or a range, a line; `#` begins a comment. What follows a comma is the name of a group.
pub(super) fn read(text: &str) -> Result<Inventory, (usize, BadHost)> {
    let (mut hosts, mut groups) = (Vec::new(), Members::new());
    for (nth, line) in text.lines().enumerate() {
        let at_line = |e: BadHost| (nth + 1, e);
        let bad = |text: &str, reason: String| BadHost { text: text.to_owned(), reason };
        let line = line.split('#').next().unwrap_or_default().trim();
        let (pattern, label) = labelled(line);
        let names = expand(pattern).map_err(at_line)?;
        if names.len() > MAX_EXPANSION - hosts.len() {
            return Err(at_line(bad(line, format!("more than {MAX_EXPANSION} hosts"))));
        }
        let of_line: Vec<Host> = names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(at_line)?;
        if !label.is_empty() {
            if !is_group_name(label) || of_line.is_empty() {
                let reason = "what follows a host and a comma is one label, of letters, digits, _, - and .";
                return Err(at_line(bad(line, reason.to_owned())));
            }
            let group = groups.entry(label.to_owned()).or_default();
            group.extend(of_line.iter().map(|host| host.name.clone()));
        }
        hosts.extend(of_line);
    }
    Ok(Inventory { hosts, groups, ..Inventory::default() })
}

/// A line's host and label: what is before its first comma outside brackets, and what is after it.
fn labelled(line: &str) -> (&str, &str) {
    let mut depth = 0i32;
    for (at, c) in line.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth <= 0 => return (line[..at].trim(), line[at + 1..].trim()),
            _ => {}
        }
    }
    (line, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(hosts: &[Host]) -> Vec<&str> {
        hosts.iter().map(|host| host.name.as_str()).collect()
    }

    #[test]
    fn a_plain_file_stays_what_it_is() {
        let read = Inventory::read("# all\nroot@web[1-2]:2222 # two\n\n[2001:db8::1]:22\nn[1,3]\n").unwrap();
        assert_eq!(names(&read.hosts), ["web1:2222", "web2:2222", "[2001:db8::1]:22", "n1", "n3"]);
        assert!(read.groups.is_empty());
    }

    #[test]
    fn labels_are_groups() {
        // The comments, the empty line and the empty label as pbench takes them.
        let text = "# hosts\n  # of the test\n\ndb1.example.com,db\nweb[1,2] , front-end\nbench@load:2222,\nplain\n";
        let read = Inventory::read(text).unwrap();
        assert_eq!(names(&read.hosts), ["db1.example.com", "web1", "web2", "load:2222", "plain"]);
        assert_eq!(read.groups.keys().collect::<Vec<_>>(), ["db", "front-end"]);
        assert_eq!(names(&read.of_group("front-end").unwrap()), ["web1", "web2"]);
    }

    #[test]
    fn the_bad_line_is_named() {
        let reason = |text: &str| Inventory::read(text).unwrap_err().to_string();
        assert_eq!(reason("a\nb c\n"), "line 2: cannot read host \"b c\": a host's name cannot have ' '");
        assert!(reason("a[1-60000]\nb[1-60000]\n").ends_with(": more than 100000 hosts"));
        for line in ["a,b,c", "a,b c", "a,root@b", ",web"] {
            let said = reason(&format!("x\n{line}\n"));
            assert!(said.starts_with("line 2: ") && said.contains("what follows a host and a comma"), "{said}");
        }
    }
}
