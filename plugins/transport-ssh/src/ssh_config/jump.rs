//! `ProxyJump`: hosts on the way, as a configuration names them.
use super::users::Services;

/// One hop, before its tokens are expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

/// The value of `ProxyJump`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Jump {
    /// `none`: directly.
    None,
    /// Nearest first.
    Via(Vec<Hop>),
}

impl Jump {
    /// Reads `none`, or hops separated by commas.
    pub(crate) fn read(text: &str, services: &Services) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        let text = text.split('#').next().unwrap_or_default();
        let text = text.trim_end_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
        text.split(',').map(|hop| Hop::read(hop, services)).collect::<Result<_, _>>().map(Self::Via)
    }
}

impl Hop {
    fn read(text: &str, services: &Services) -> Result<Self, String> {
        let bad = |reason: &str| format!("cannot read the jump host {text:?}: {reason}");
        let uri = text.strip_prefix("ssh://");
        let (user, rest) = match uri {
            // A URI's user ends at the first @, and may have parameters.
            Some(uri) => match uri.split_once('@') {
                Some((user, rest)) => {
                    let user = user.split(';').next().unwrap_or_default();
                    (Some(decode(user).ok_or_else(|| bad("a %XX is not two hexadecimal digits"))?), rest)
                }
                None => (None, uri),
            },
            None => text.rsplit_once('@').map_or((None, text), |(user, rest)| (Some(user.to_owned()), rest)),
        };
        if user.as_deref() == Some("") {
            return Err(bad("the user before @ is empty"));
        }
        let (host, after) = host_and_port(rest).ok_or_else(|| bad("it has no host, or a [ without ]"))?;
        let mut port = after.map(|(_, text)| text);
        if uri.is_some() {
            check_domain(&host).map_err(|reason| bad(&reason))?;
            let path = match after {
                Some(('/', path)) => {
                    port = None;
                    path
                }
                Some((_, text)) => {
                    let (number, path) = text.split_once('/').unwrap_or((text, ""));
                    port = Some(number);
                    path
                }
                None => "",
            };
            if !path.is_empty() {
                return Err(bad("the address of a host has no path"));
            }
        }
        let port = match port.filter(|port| !port.is_empty()) {
            Some(port) => Some(
                services.port(port).filter(|port| *port > 0).ok_or_else(|| bad(&format!("{port:?} is not a port")))?,
            ),
            None => None,
        };
        Ok(Self { user, host: host.strip_suffix('.').filter(|_| uri.is_some()).unwrap_or(&host).to_owned(), port })
    }
}

/// Parts a host, whose IPv6 address may be in brackets, from what follows `:` or `/`.
fn host_and_port(text: &str) -> Option<(String, Option<(char, &str)>)> {
    let end = match text.strip_prefix('[') {
        Some(inner) => inner.find(']')? + 2,
        None => text.find([':', '/']).unwrap_or(text.len()),
    };
    let (host, after) = text.split_at(end);
    let after = match after.chars().next() {
        None => None,
        Some(delimiter @ (':' | '/')) => Some((delimiter, &after[1..])),
        Some(_) => return None,
    };
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then(|| (host.to_owned(), after))
}

/// Checks a domain name as OpenSSH does: letters, digits, `.`, `-` and `_`, no empty label inside.
pub(crate) fn check_domain(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !begins || name.contains("..") || !name.chars().all(allowed) {
        return Err(format!("{name:?} is not a domain name"));
    }
    Ok(())
}

/// Decodes `%XX` and `+` of a URI.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok().filter(|b| *b != 0 && !digits.starts_with('+'))?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}
