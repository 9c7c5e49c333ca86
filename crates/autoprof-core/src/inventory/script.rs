//! What inventory scripts and `ansible-inventory --list` print: groups by name, with lists of hosts and children, and
//! the hosts' variables under `_meta`.
//!
//! Source: ansible/plugins/inventory/script.py.
use super::{
    error::Problem,
    nested::{is_null, name, what},
    tree::Tree,
    vars::{Place, Value},
};
use crate::yaml::{Content, Node};

type Bad = (usize, Problem);

/// Where the hosts' variables are.
const META: &str = "_meta";

fn get<'n>(node: &'n Node, wanted: &str) -> Option<&'n Node> {
    node.get(wanted)
}

/// Whether a file has the form of a script's output.
pub(super) fn is_output(root: &Node) -> bool {
    let Content::Map(groups) = &root.content else { return false };
    let is_list = |node: &Node| matches!(node.content, Content::List(_));
    let is_json = groups.iter().all(|(key, _)| matches!(key.content, Content::Text(_)));
    let lists =
        |group: &Node| is_list(group) || ["hosts", "children"].iter().any(|k| get(group, k).is_some_and(is_list));
    get(root, META).is_some() || (is_json && groups.iter().any(|(_, group)| lists(group)))
}

/// Reads a file into a tree.
pub(super) fn read(root: &Node, file: usize, tree: &mut Tree) -> Result<(), Bad> {
    let Content::Map(groups) = &root.content else { return Err((root.line, Problem::NotGroups(what(root)))) };
    for (key, content) in groups {
        let group_name = name(key)?;
        if group_name == META {
            continue;
        }
        let at = |line: usize| move |problem: Problem| (line, problem);
        let group = tree.group(&group_name).map_err(at(key.line))?;
        let names = |node: Option<&Node>, key: &'static str| -> Result<Vec<(String, usize)>, Bad> {
            let Some(node) = node.filter(|node| !is_null(node)) else { return Ok(Vec::new()) };
            let bad = || (node.line, Problem::NotNames { group: group_name.clone(), key });
            let Content::List(items) = &node.content else { return Err(bad()) };
            items.iter().map(|item| Ok((name(item).map_err(|_| bad())?, item.line))).collect()
        };
        let (hosts, children) = match &content.content {
            Content::List(_) => (names(Some(content), "hosts")?, Vec::new()),
            Content::Map(sections) => {
                for (section, _) in sections {
                    let word = name(section)?;
                    if !["hosts", "vars", "children"].contains(&word.as_str()) {
                        return Err((section.line, Problem::UnknownKey { group: group_name, key: word }));
                    }
                }
                (names(get(content, "hosts"), "hosts")?, names(get(content, "children"), "children")?)
            }
            _ if is_null(content) => (Vec::new(), Vec::new()),
            _ => return Err((content.line, Problem::NotAGroup { group: group_name, what: what(content) })),
        };
        for (host, line) in hosts {
            tree.add_host(&host, group, None, Place { file, line }).map_err(at(line))?;
        }
        for (child, line) in children {
            let child = tree.group(&child).map_err(at(line))?;
            tree.add_child(group, child).map_err(at(line))?;
        }
        for (key, value) in get(content, "vars").map(map).transpose()?.unwrap_or_default() {
            let variable = name(key)?;
            let place = Place { file, line: key.line };
            tree.set_group_var(group, &variable, Value::of_yaml(value), place).map_err(at(key.line))?;
        }
    }
    let known = get(root, META).and_then(|meta| get(meta, "hostvars"));
    for (host, vars) in known.map(map).transpose()?.unwrap_or_default() {
        let host_name = name(host)?;
        for (key, value) in map(vars)? {
            let place = Place { file, line: key.line };
            let variable = name(key)?;
            tree.set_host_var(&host_name, &variable, Value::of_yaml(value), place).map_err(|p| (key.line, p))?;
        }
    }
    Ok(())
}

fn map(node: &Node) -> Result<&[(Node, Node)], Bad> {
    match &node.content {
        Content::Map(entries) => Ok(entries),
        _ if is_null(node) => Ok(&[]),
        _ => Err((node.line, Problem::NotVars)),
    }
}
