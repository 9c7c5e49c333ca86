//! Hosts: how people name them, and what is known about how to reach them.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name that means this machine.
pub const LOCAL: &str = "local";
/// Most hosts that ranges may give, in one expression, one hosts file or one job.
pub const MAX_EXPANSION: usize = 100_000;
/// Longest text that stands for one host, in bytes: user, address and port.
const MAX_TEXT: usize = 512;

/// A target machine and how to reach it. This one description is used for everything that is done on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// What the controller calls it: in messages, in the manifest, as a directory's name.
    pub name: String,
    /// Where it is, when that is not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port, when it is not the transport's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// User, when it is not the one that the transport would pick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Private key file to authenticate with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub identity_file: Option<Utf8PathBuf>,
    /// Hosts to go through, `[user@]host[:port]`, comma-separated; `none`: directly, whatever a configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump: Option<String>,
    /// The transport that reaches it.
    pub transport: String,
    /// Settings of the transport, by its own names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Groups that it is in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn local() -> Self {
        Self { transport: LOCAL.into(), ..Self::named(LOCAL) }
    }

    /// A host that is reached over SSH under its name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: None,
            port: None,
            user: None,
            identity_file: None,
            jump: None,
            transport: "ssh".into(),
            options: BTreeMap::new(),
            groups: BTreeSet::new(),
        }
    }

    /// Where it is: its address, or else its name.
    #[must_use]
    pub fn address(&self) -> &str {
        self.address.as_deref().unwrap_or(&self.name)
    }

    /// A setting of the transport.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A host that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read host {text:?}: {reason}")]
pub struct BadHost {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for Host {
    type Err = BadHost;

    /// Reads `[user@]host[:port]`, with an IPv6 address in brackets, or `local`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason: &str| BadHost { text: text.to_owned(), reason: reason.to_owned() };
        if text == LOCAL {
            return Ok(Self::local());
        }
        let (user, rest) = match text.rsplit_once('@') {
            Some(("", _)) => return Err(bad("the user before @ is empty")),
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (address, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (address, after) = inner.split_once(']').ok_or_else(|| bad("[ without ]"))?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(bad("only :port may follow ]")),
            };
            (address, port)
        } else {
            match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(bad("an IPv6 address is written in brackets: [2001:db8::1]:22"));
                }
                Some((address, port)) => (address, Some(port)),
                None => (rest, None),
            }
        };
        let port = port
            .map(|p| {
                p.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| bad("the port is a number from 1 to 65535"))
            })
            .transpose()?;
        if address.contains(['[', ']']) {
            return Err(bad("brackets hold a range of numbers, such as [01-16] or [1-9/2], or an IPv6 address"));
        }
        check_name(address).map_err(|reason| bad(&reason))?;
        let name = match port {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address.to_owned(),
        };
        Ok(Self {
            address: (name != address).then(|| address.to_owned()),
            port,
            user: user.map(str::to_owned),
            ..Self::named(&name)
        })
    }
}

/// Checks that a name can be shown, and be a directory's name in a run.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_name(name: &str) -> Result<(), String> {
    match name.chars().find(|c| is_invisible(*c) || c.is_whitespace() || "/\\'\"`$;&|<>(){}*?!#,^".contains(*c)) {
        Some(c) => Err(format!("a host's name cannot have {c:?}")),
        None if name.is_empty() => Err("a host's name cannot be empty".into()),
        None if name.starts_with(['-', '.']) => Err("a host's name cannot begin with - or .".into()),
        None if name.len() > 200 => Err("a host's name has at most 200 characters".into()),
        None => Ok(()),
    }
}

/// Whether a character would change how the text around it is shown: control characters, directions of writing.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Expands a comma-separated list with numeric ranges: `web[01-03,7],db1` gives `web01`, `web02`, `web03`, `web07`
/// and so on; leading zeros set the width. Brackets that hold no range (an IPv6 address) stay as they are.
///
/// # Errors
/// For an unclosed bracket, a range that runs backwards, a name that is too long to be one, or more than
/// [`MAX_EXPANSION`] names.
pub fn expand(list: &str) -> Result<Vec<String>, BadHost> {
    let bad = |reason: &str| BadHost { text: list.to_owned(), reason: reason.to_owned() };
    let mut out = Vec::new();
    for item in split_items(list).ok_or_else(|| bad("[ without ]"))? {
        let item = item.trim();
        if item.is_empty() {
            continue;
        }
        expand_item(item, &mut out).map_err(|reason| bad(&reason))?;
    }
    Ok(out)
}

/// The items of a comma-separated list; a comma in brackets separates none.
///
/// # Errors
/// For brackets that are not closed.
pub fn items(list: &str) -> Result<Vec<&str>, BadHost> {
    split_items(list).ok_or_else(|| BadHost { text: list.to_owned(), reason: "[ without ]".to_owned() })
}

/// Splits at commas outside brackets.
fn split_items(list: &str) -> Option<Vec<&str>> {
    let (mut items, mut depth, mut from) = (Vec::new(), 0i32, 0);
    for (at, c) in list.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        if !(0..=1).contains(&depth) {
            return None;
        }
    }
    items.push(&list[from..]);
    (depth == 0).then_some(items)
}

/// One item's names: all that its first range gives, each with all that its second one gives, and so on.
fn expand_item(item: &str, out: &mut Vec<String>) -> Result<(), String> {
    let room = MAX_EXPANSION.saturating_sub(out.len());
    let (mut ranges, mut count, mut longest, mut rest) = (Vec::new(), 1, 0, item);
    while let Some((open, close)) = find_range(rest) {
        let numbers = numbers(&rest[open + 1..close], room / count)?;
        count *= numbers.len();
        longest += open + numbers.iter().map(String::len).max().unwrap_or(0);
        check_length(longest)?;
        ranges.push((&rest[..open], numbers));
        rest = &rest[close + 1..];
    }
    check_length(longest + rest.len())?;
    if count > room {
        return Err(too_many());
    }
    out.extend((0..count).map(|nth| {
        let (mut name, mut each, mut nth) = (String::new(), count, nth);
        for (text, numbers) in &ranges {
            each /= numbers.len();
            name.extend([text, numbers[nth / each].as_str()]);
            nth %= each;
        }
        name + rest
    }));
    Ok(())
}

fn too_many() -> String {
    format!("more than {MAX_EXPANSION} hosts")
}

fn check_length(length: usize) -> Result<(), String> {
    if length <= MAX_TEXT { Ok(()) } else { Err(format!("a host has at most {MAX_TEXT} characters")) }
}

/// Where the first brackets that hold a range open and close.
fn find_range(text: &str) -> Option<(usize, usize)> {
    text.match_indices('[').find_map(|(open, _)| {
        let close = open + text[open..].find(']')?;
        is_range(&text[open + 1..close]).then_some((open, close))
    })
}

/// The numbers of a range, as many digits as its beginning has when that has leading zeros.
fn numbers(range: &str, most: usize) -> Result<Vec<String>, String> {
    let (mut width, mut out) = (0, Vec::new());
    for part in range.split(',') {
        let (part, stride) = part.split_once('/').unwrap_or((part, "1"));
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if low.starts_with('0') {
            width = low.len();
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is too large a number"));
        let (from, to) = (number(low)?, number(high)?);
        if from > to {
            return Err(format!("the range {part} runs backwards"));
        }
        let stride = usize::try_from(number(stride)?).ok().filter(|stride| *stride > 0);
        let stride = stride.ok_or_else(|| format!("the stride of {part} must be at least 1"))?;
        if (to - from) / stride as u64 >= most.saturating_sub(out.len()) as u64 {
            return Err(too_many());
        }
        out.extend((from..=to).step_by(stride).map(|n| format!("{n:0width$}")));
    }
    Ok(out)
}

fn is_range(inner: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    let bounds = |part: &str| part.split_once('-').is_some_and(|(a, b)| number(a) && number(b));
    inner.split(',').all(|part| match part.split_once('/') {
        Some((range, stride)) => bounds(range) && number(stride),
        None => number(part) || bounds(part),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_keep_their_width() {
        assert_eq!(expand("web[01-03],db1").unwrap(), ["web01", "web02", "web03", "db1"]);
        assert_eq!(expand("n[8-10,20]").unwrap(), ["n8", "n9", "n10", "n20"]);
        assert_eq!(expand("n[008-010]").unwrap(), ["n008", "n009", "n010"]);
        assert_eq!(expand("r[1-2]n[1-2]").unwrap(), ["r1n1", "r1n2", "r2n1", "r2n2"]);
        assert_eq!(expand("root@n[1-2]:2222").unwrap(), ["root@n1:2222", "root@n2:2222"]);
        assert_eq!(expand("[2001:db8::1]:22, a ,").unwrap(), ["[2001:db8::1]:22", "a"]);
    }

    #[test]
    fn ranges_may_have_strides() {
        assert_eq!(expand("n[1-5/2]").unwrap(), ["n1", "n3", "n5"]);
        assert_eq!(expand("n[01-10/4,20]").unwrap(), ["n01", "n05", "n09", "n20"]);
        assert_eq!(expand("n[0-999999/100000]").unwrap().len(), 10);
        assert!(expand("n[1-5/0]").unwrap_err().reason.contains("at least 1"));
        assert!(expand("n[1-5/x]").unwrap()[0].parse::<Host>().is_err());
    }

    #[test]
    fn bad_ranges_are_refused() {
        for list in ["a[1-2", "a]1[", "a[3-1]", "a[[1]]", "a[0-99999999]"] {
            assert!(expand(list).is_err(), "{list}");
        }
    }

    #[test]
    fn ranges_give_no_more_names_than_there_can_be_and_none_that_could_be_no_host() {
        assert_eq!(expand("a[1-100000]").unwrap().len(), MAX_EXPANSION);
        for list in ["a[1-100000],b", "a[0-999][0-100]", "[0-999999999999999999]"] {
            assert_eq!(expand(list).unwrap_err().reason, "more than 100000 hosts", "{list}");
        }
        let endless = "[1]".repeat(1 << 20);
        for list in [endless, "a".repeat(1 << 20) + "[1-99999]", "[1-99999]".to_owned() + &"a".repeat(1 << 20)] {
            assert_eq!(expand(&list).unwrap_err().reason, "a host has at most 512 characters");
        }
    }

    #[test]
    fn users_ports_and_ipv6_are_told_apart() {
        let h = host("root@web01:2222");
        assert_eq!(
            (h.name.as_str(), h.address(), h.user.as_deref(), h.port),
            ("web01:2222", "web01", Some("root"), Some(2222))
        );
        let h = host("[2001:db8::1]:22");
        assert_eq!((h.name.as_str(), h.address(), h.port), ("[2001:db8::1]:22", "2001:db8::1", Some(22)));
        assert_eq!(host("a@b@web").user.as_deref(), Some("a@b"));
        assert_eq!(host("local").transport, "local");
    }

    #[test]
    fn bad_hosts_are_refused() {
        for text in [
            "",
            "@web",
            "web:0",
            "web:x",
            "2001:db8::1",
            "[::1",
            "[::1]x",
            "a b",
            "../x",
            "a/b",
            "-oProxyCommand=x",
            "web[]",
            "web[a-b]",
            "a\u{1b}",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_the_reader(text in any::<String>()) {
            if let Ok(names) = expand(&text) {
                names.iter().for_each(|n| drop(n.parse::<Host>()));
            }
        }

        #[test]
        fn a_range_gives_every_number_once(from in 0u64..500, count in 0u64..50) {
            let names = expand(&format!("n[{from}-{}]", from + count)).unwrap();
            let expected: Vec<_> = (from..=from + count).map(|n| format!("n{n}")).collect();
            prop_assert_eq!(names, expected);
        }
    }
}
