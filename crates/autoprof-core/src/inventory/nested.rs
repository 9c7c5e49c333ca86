//! Inventories as YAML or JSON: groups in groups.
//!
//! Source: ansible/plugins/inventory/yaml.py. Where Ansible leaves something out with a warning, it is an error here.
use super::{
    error::Problem,
    literal, ranges,
    tree::{GroupId, Tree},
    vars::{Place, Value},
};
use crate::yaml::{Content, Node};

/// A problem in a line.
type Bad = (usize, Problem);

/// What something is, in words.
pub(super) fn what(node: &Node) -> &'static str {
    match &node.content {
        Content::Plain(text) if literal::yaml_plain(text) == Value::Null => "nothing",
        Content::Plain(text) if matches!(literal::yaml_plain(text), Value::Scalar(_)) => "a number or boolean",
        Content::Plain(_) | Content::Text(_) => "text",
        Content::List(_) => "a list",
        Content::Map(_) => "a map",
    }
}

pub(super) fn is_null(node: &Node) -> bool {
    node.tag.is_none() && matches!(&node.content, Content::Plain(text) if literal::yaml_plain(text) == Value::Null)
}

/// A key, or a scalar that stands for one.
pub(super) fn name(node: &Node) -> Result<String, Bad> {
    match &node.content {
        Content::Text(text) => Ok(text.clone()),
        Content::Plain(text) if matches!(literal::yaml_plain(text), Value::Text(_)) => Ok(text.clone()),
        Content::Plain(text) => Err((node.line, Problem::NotTextKey(text.clone()))),
        Content::List(_) | Content::Map(_) => Err((node.line, Problem::NotTextKey(what(node).to_owned()))),
    }
}

/// Reads a file into a tree.
pub(super) fn read(root: &Node, file: usize, tree: &mut Tree) -> Result<(), Bad> {
    let Content::Map(groups) = &root.content else { return Err((root.line, Problem::NotGroups(what(root)))) };
    for (key, value) in groups {
        group(key, value, file, tree)?;
    }
    Ok(())
}

fn group(key: &Node, value: &Node, file: usize, tree: &mut Tree) -> Result<GroupId, Bad> {
    let name = name(key)?;
    let at = |line: usize| move |problem: Problem| (line, problem);
    let id = tree.group(&name).map_err(at(key.line))?;
    let sections = match &value.content {
        Content::Map(sections) => sections,
        _ if is_null(value) => return Ok(id),
        _ => return Err((value.line, Problem::NotAGroup { group: name, what: what(value) })),
    };
    for (section_key, section) in sections {
        let word = self::name(section_key)?;
        if !["hosts", "vars", "children"].contains(&word.as_str()) {
            return Err((section_key.line, Problem::UnknownKey { group: name, key: word }));
        }
        let one;
        let entries: &[(Node, Node)] = match &section.content {
            Content::Map(entries) => entries,
            _ if is_null(section) => continue,
            // One name as text is a map of it to nothing, as Ansible has it.
            Content::Plain(_) | Content::Text(_) if word != "vars" && what(section) == "text" => {
                let nothing = Node { line: section.line, tag: None, content: Content::Plain(String::new()) };
                one = [(section.clone(), nothing)];
                &one
            }
            _ => return Err((section.line, Problem::NotAMap { group: name, key: word, what: what(section) })),
        };
        for (key, value) in entries {
            let place = Place { file, line: key.line };
            match word.as_str() {
                "vars" => {
                    let variable = self::name(key)?;
                    tree.set_group_var(id, &variable, Value::of_yaml(value), place).map_err(at(key.line))?;
                }
                "children" => {
                    let child = group(key, value, file, tree)?;
                    tree.add_child(id, child).map_err(at(key.line))?;
                }
                _ => hosts(key, value, id, place, tree)?,
            }
        }
    }
    Ok(id)
}

fn hosts(key: &Node, value: &Node, group: GroupId, place: Place, tree: &mut Tree) -> Result<(), Bad> {
    let pattern = name(key)?;
    let at = |problem: Problem| (key.line, problem);
    if pattern.contains(char::is_whitespace) {
        return Err(at(Problem::HostWithSpace(pattern)));
    }
    let (names, port) = ranges::hosts(&pattern).map_err(|e| at(e.into()))?;
    let none = Vec::new();
    let vars = match &value.content {
        Content::Map(vars) => vars,
        _ if is_null(value) => &none,
        _ => return Err((value.line, Problem::HostVars(pattern))),
    };
    let vars =
        vars.iter().map(|(key, value)| Ok((name(key)?, Value::of_yaml(value), Place { line: key.line, ..place })));
    let vars: Vec<_> = vars.collect::<Result<_, Bad>>()?;
    for host in names {
        tree.add_host(&host, group, port, place).map_err(at)?;
        for (variable, value, place) in &vars {
            tree.set_host_var(&host, variable, value.clone(), *place).map_err(at)?;
        }
    }
    Ok(())
}
