//! Inventories as INI.
//!
//! Source: ansible/plugins/inventory/ini.py.
use std::collections::HashMap;

use super::{
    error::Problem,
    literal, ranges,
    tree::{GroupId, Tree},
    vars::Place,
};

/// What the lines of a section are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hosts,
    Children,
    Vars,
}

/// A group that is named before it is defined.
struct Pending {
    line: usize,
    /// The sections that name it as a child; none: its variables came first.
    parents: Vec<GroupId>,
}

/// The group and the kind of a section's line: `[web]`, `[web:vars] # comment`.
pub(super) fn section(line: &str) -> Option<(&str, &str)> {
    let (inner, after) = line.strip_prefix('[')?.split_once(']')?;
    let after = after.trim_start();
    if !(after.is_empty() || after.starts_with('#')) {
        return None;
    }
    let (name, kind) = match inner.split_once(':') {
        Some((name, kind)) if !kind.is_empty() && kind.chars().all(|c| c.is_alphanumeric() || c == '_') => (name, kind),
        Some(_) => return None,
        None => (inner, "hosts"),
    };
    is_group(name).then_some((name, kind))
}

fn is_group(name: &str) -> bool {
    !name.is_empty() && !name.contains([':', ']']) && !name.contains(char::is_whitespace)
}

/// Reads a file into a tree; an error comes with its line.
pub(super) fn read(text: &str, file: usize, tree: &mut Tree) -> Result<(), (usize, Problem)> {
    let mut pending: HashMap<String, Pending> = HashMap::new();
    let ungrouped = tree.group(super::tree::UNGROUPED).map_err(|problem| (1, problem))?;
    let (mut group, mut kind) = (ungrouped, Kind::Hosts);
    for (nth, line) in literal::lines(text).enumerate() {
        let number = nth + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let place = Place { file, line: number };
        let mut read = || -> Result<(), Problem> {
            if let Some((name, written)) = section(line) {
                kind = match written {
                    "hosts" => Kind::Hosts,
                    "children" => Kind::Children,
                    "vars" => Kind::Vars,
                    _ => return Err(Problem::SectionKind { group: name.to_owned(), kind: written.to_owned() }),
                };
                if kind == Kind::Vars && tree.group_id(name).is_none() && !pending.contains_key(name) {
                    pending.insert(name.to_owned(), Pending { line: number, parents: Vec::new() });
                }
                group = tree.group(name)?;
                if kind != Kind::Vars {
                    for parent in pending.remove(name).into_iter().flat_map(|pending| pending.parents) {
                        tree.add_child(parent, group)?;
                    }
                }
                return Ok(());
            }
            if line.starts_with('[') && line.ends_with(']') {
                return Err(Problem::Section(line.to_owned()));
            }
            match kind {
                Kind::Hosts => host_line(line, group, place, tree),
                Kind::Vars => {
                    let (key, value) = line.split_once('=').ok_or_else(|| Problem::NotKeyValue(line.to_owned()))?;
                    tree.set_group_var(group, key.trim(), literal::value(value.trim()), place)
                }
                Kind::Children => {
                    let name = line.split_once('#').map_or(line, |(before, _)| before).trim_end();
                    if !is_group(name) {
                        return Err(Problem::GroupName(line.to_owned()));
                    }
                    match tree.group_id(name) {
                        Some(child) => tree.add_child(group, child),
                        None => {
                            let known = pending.entry(name.to_owned());
                            known.or_insert(Pending { line: number, parents: Vec::new() }).parents.push(group);
                            Ok(())
                        }
                    }
                }
            }
        };
        read().map_err(|problem| (number, problem))?;
    }
    match pending.into_iter().min_by_key(|(_, pending)| pending.line) {
        None => Ok(()),
        Some((name, pending)) => {
            let by = match pending.parents.first() {
                Some(parent) => format!("{}:children", tree.groups[*parent].name),
                None => format!("{name}:vars"),
            };
            Err((pending.line, Problem::Undefined { group: name, by }))
        }
    }
}

fn host_line(line: &str, group: GroupId, place: Place, tree: &mut Tree) -> Result<(), Problem> {
    let words = literal::words(line).ok_or_else(|| Problem::Quotes(line.to_owned()))?;
    let Some((pattern, settings)) = words.split_first() else { return Ok(()) };
    let (names, port) = ranges::hosts(pattern)?;
    let mut vars = Vec::new();
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| Problem::NotKeyValue(setting.clone()))?;
        vars.push((key, literal::value(value)));
    }
    for name in names {
        tree.add_host(&name, group, port, place)?;
        for (key, value) in &vars {
            tree.set_host_var(&name, key, value.clone(), place)?;
        }
    }
    Ok(())
}
