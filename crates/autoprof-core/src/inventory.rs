//! Files of hosts: a host a line, with or without a label, or an Ansible inventory, as INI, YAML or JSON.
//!
//! What `ansible-inventory` says is the truth: the same hosts in the same groups with the same variables. What Ansible
//! evaluates elsewhere (scripts, plugins, templates, vaults) is an error that names file and line; where only one host
//! needs it, that host is refused when it is used.
mod connection;
mod error;
mod ini;
mod lines;
mod literal;
mod nested;
mod precedence;
mod ranges;
mod script;
mod tree;
mod vars;
mod vars_files;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

pub use self::{
    error::{BadInventory, Problem},
    ranges::BadRange,
    vars::NotText,
};
use self::{precedence::Resolved, tree::Tree, vars_files::bounded as read_file};
use crate::{
    groups::Members,
    host::Host,
    yaml::{self, YamlError},
};

/// Hosts, and the groups that they are in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// The hosts, in the file's order.
    pub hosts: Vec<Host>,
    /// Names of hosts by group; empty for a file without labels.
    pub groups: Members,
    /// Hosts that cannot be reached as the inventory says, by name, and why; they are in `hosts`, too.
    pub unusable: BTreeMap<String, BadInventory>,
    /// Variables of hosts that autoprof does not honor, by name.
    pub not_honored: BTreeMap<String, Vec<&'static str>>,
    /// What else is to be known of the files.
    pub warnings: Vec<String>,
}

/// The forms that a file of hosts may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Ini,
    Yaml,
}

impl Inventory {
    /// Reads a text of hosts, whichever of the forms it has.
    ///
    /// # Errors
    /// What cannot be read, with its line where it has one.
    pub fn read(text: &str) -> Result<Self, BadInventory> {
        let bad = |(line, problem): (Option<usize>, Problem)| BadInventory { file: None, line, problem };
        let form = form(text).map_err(bad)?;
        if form == Form::Lines {
            return lines::read(text).map_err(|(line, e)| bad((Some(line), e.into())));
        }
        let mut tree = Tree::new();
        add(text, form, 0, &mut tree).map_err(bad)?;
        resolve(tree, &[None])
    }

    /// Reads a file of hosts, or a directory of Ansible inventories, with the `group_vars` and `host_vars` beside them.
    ///
    /// # Errors
    /// What cannot be read, with file and line.
    pub fn load(path: &Utf8Path) -> Result<Self, BadInventory> {
        let mut sources = Vec::new();
        match path.is_dir() {
            true => vars_files::inventories(path, 0, &mut sources)?,
            false => sources.push(path.to_owned()),
        }
        let mut tree = Tree::new();
        for (file, source) in sources.iter().enumerate() {
            let text = read_file(source)?;
            let bad = |(line, problem)| BadInventory { file: Some(source.clone()), line, problem };
            let form = match form(&text).map_err(bad)? {
                // In a directory of inventories every file is one.
                Form::Lines if path.is_dir() => Form::Ini,
                form => form,
            };
            if form == Form::Lines {
                return lines::read(&text).map_err(|(line, e)| bad((Some(line), e.into())));
            }
            add(&text, form, file, &mut tree).map_err(bad)?;
        }
        let directory = if path.is_dir() { path } else { path.parent().unwrap_or(Utf8Path::new(".")) };
        let directory = if directory.as_str().is_empty() { Utf8Path::new(".") } else { directory };
        let mut files = sources;
        let warnings = vars_files::read(directory, &mut tree, &mut files)?;
        let files: Vec<_> = files.into_iter().map(Some).collect();
        Ok(Self { warnings, ..resolve(tree, &files)? })
    }

    /// Only the hosts of a group; none: there is no group of this name.
    #[must_use]
    pub fn of_group(&self, group: &str) -> Option<Vec<Host>> {
        let members = self.groups.get(group)?;
        Some(self.hosts.iter().filter(|host| members.contains(&host.name)).cloned().collect())
    }
}

/// Reads one file into a tree.
fn add(text: &str, form: Form, file: usize, tree: &mut Tree) -> Result<(), (Option<usize>, Problem)> {
    let at_line = |(line, problem)| (Some(line), problem);
    if form != Form::Yaml {
        return ini::read(text, file, tree).map_err(at_line);
    }
    let root = yaml::nodes(text).map_err(|e| match e {
        YamlError::Syntax { line, .. } => (Some(line), e.into()),
        e => (None, e.into()),
    })?;
    let Some(root) = root else { return Ok(()) };
    if let yaml::Content::Map(entries) = &root.content
        && let Some((key, plugin)) =
            entries.iter().find(|(key, _)| nested::name(key).is_ok_and(|name| name == "plugin"))
    {
        return Err((Some(key.line), Problem::Plugin(nested::name(plugin).unwrap_or_default())));
    }
    match script::is_output(&root) {
        true => script::read(&root, file, tree).map_err(at_line),
        false => nested::read(&root, file, tree).map_err(at_line),
    }
}

/// Which form a text has.
fn form(text: &str) -> Result<Form, (Option<usize>, Problem)> {
    if text.starts_with("#!") {
        return Err((Some(1), Problem::Script));
    }
    if text.starts_with("$ANSIBLE_VAULT") {
        return Err((Some(1), Problem::Encrypted));
    }
    let said = || literal::lines(text).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let first = said().find(|line| *line != "---" && !line.starts_with("%YAML")).unwrap_or_default();
    if is_yaml(first) || said().next() == Some("---") {
        return Ok(Form::Yaml);
    }
    let settings =
        |line: &str| line.split_whitespace().skip(1).take_while(|w| !w.starts_with('#')).any(|w| w.contains('='));
    if said().any(|line| ini::section(line).is_some() || settings(line) || ranges::has_range(line)) {
        return Ok(Form::Ini);
    }
    Ok(Form::Lines)
}

/// Whether a first line begins a map: `all:`, `"all": # comment`, `all: {...}`, `{`.
fn is_yaml(line: &str) -> bool {
    if line.starts_with('{') || line.starts_with("- ") {
        return true;
    }
    let after_key = match line.chars().next() {
        Some(quote @ ('"' | '\'')) => line[1..].split_once(quote).map(|(_, after)| after.trim_start()),
        Some(c) if c != '[' => line.find(':').filter(|at| !line[..*at].contains(' ')).map(|at| &line[at..]),
        _ => None,
    };
    let value = after_key.and_then(|after| after.strip_prefix(':'));
    value.is_some_and(|value| value.is_empty() || value.starts_with([' ', '\t']))
}

/// What follows from a tree.
fn resolve(tree: Tree, files: &[Option<Utf8PathBuf>]) -> Result<Inventory, BadInventory> {
    let whole = |problem| BadInventory { file: files.first().cloned().flatten(), line: None, problem };
    let mut resolved = Resolved::of(tree).map_err(whole)?;
    let mut inventory = Inventory::default();
    for id in 0..resolved.tree().hosts.len() {
        let vars = resolved.vars(id);
        let known = &resolved.tree().hosts[id];
        match connection::host(&known.name, &vars, known.place) {
            Ok((host, unused)) => {
                if !unused.is_empty() {
                    inventory.not_honored.insert(host.name.clone(), unused);
                }
                inventory.hosts.push(host);
            }
            Err((place, problem)) => {
                let file = files.get(place.file).cloned().flatten();
                let bad = BadInventory { file, line: Some(place.line), problem };
                inventory.unusable.insert(known.name.clone(), bad);
                inventory.hosts.push(Host::named(&known.name));
            }
        }
    }
    let (groups, hosts) = (&resolved.tree().groups, &resolved.tree().hosts);
    for (group, members) in groups.iter().zip(resolved.members()) {
        let names = members.into_iter().map(|id| hosts[id].name.clone()).collect();
        inventory.groups.insert(group.name.clone(), names);
    }
    // As it was before there was a first one: a group that every inventory has is no answer to what there is.
    if inventory.groups.get(tree::UNGROUPED).is_some_and(std::collections::BTreeSet::is_empty) {
        inventory.groups.remove(tree::UNGROUPED);
    }
    Ok(inventory)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::LOCAL;

    const INI: &str = "\
# Before any group.
bastion.example.com

[web]
www[01:03].example.com ansible_user=deploy
[db]
db-[a:b] ansible_host=10.0.0.1 ansible_port=2222   # both by one address
here ansible_connection=local

[prod:children]
web
db
[prod:vars]
ansible_user = \"ops\"
[all:vars]
ansible_ssh_private_key_file=/keys/all
";

    const YAML: &str = "\
---
all:
  vars: {ansible_user: ops}
  hosts:
    mail: {ansible_port: 2200}
  children:
    web:
      hosts:
        www[1:2]:
        www9: {ansible_host: 192.0.2.9}
      vars: {ansible_user: deploy}
";

    fn names(hosts: &[Host]) -> Vec<&str> {
        hosts.iter().map(|host| host.name.as_str()).collect()
    }

    fn user_of<'a>(inventory: &'a Inventory, name: &str) -> Option<&'a str> {
        inventory.hosts.iter().find(|host| host.name == name)?.user.as_deref()
    }

    #[test]
    fn an_inventory_as_ini_is_read() {
        let read = Inventory::read(INI).unwrap();
        let www = ["www01.example.com", "www02.example.com", "www03.example.com"];
        assert_eq!(names(&read.of_group("web").unwrap()), www);
        assert_eq!(read.of_group("prod").unwrap().len(), 6);
        assert_eq!(read.hosts[0].name, "bastion.example.com");
        assert_eq!(user_of(&read, www[0]), Some("deploy"), "a host's own variable comes first");
        assert_eq!(user_of(&read, "db-a"), Some("ops"), "then its group's");
        assert_eq!(read.hosts[0].identity_file.as_deref().unwrap(), "/keys/all");
        let db = read.hosts.iter().find(|host| host.name == "db-b").unwrap();
        assert_eq!((db.address(), db.port), ("10.0.0.1", Some(2222)));
        assert_eq!(read.hosts.last().unwrap().transport, LOCAL);
        assert_eq!(read.of_group("nope"), None);
    }

    #[test]
    fn an_inventory_as_yaml_is_read() {
        let read = Inventory::read(YAML).unwrap();
        assert_eq!(names(&read.hosts), ["mail", "www1", "www2", "www9"]);
        assert_eq!((user_of(&read, "mail"), user_of(&read, "www1")), (Some("ops"), Some("deploy")));
        assert_eq!(read.hosts[0].port, Some(2200));
        assert_eq!(read.hosts[3].address(), "192.0.2.9");
        assert_eq!(read.of_group("web").unwrap().len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let error = |text: &str| Inventory::read(text).unwrap_err().to_string();
        for (text, why) in [
            ("[a]\nhost port\n", "line 2: expected KEY=VALUE, not \"port\""),
            ("[a]\nh ansible_host={{ ip }}\n", "line 2: expected KEY=VALUE, not \"ip\""),
            ("[a]\nweb[3:x]\n", "line 2: cannot expand \"web[3:x]\": brackets hold a range"),
            ("[a]\na[1:9][0:99999999]\n", "more than"),
            ("[a b]\n[c]\n", "line 1: \"[a b]\" is not a section"),
            ("[a:b]\n[c]\n", "line 1: section [a:b] has an unknown kind"),
            ("[a:children]\nb\n", "line 2: section [a:children] names the group \"b\", which is not defined"),
            ("[a:vars]\nx=1\n", "line 1: section [a:vars] names the group \"a\", which is not defined"),
            ("[a:children]\nb\n[b:children]\na\n", "contains itself"),
            ("[a]\nh x='open\n", "line 2: a quote is not closed"),
            ("all:\n  hosts: [\n", "line 3"),
            ("all:\n  hosts: [a]\n", "line 2: \"hosts\" of the group \"all\" is a list, and must be a map"),
            ("all:\n  hosts:\n    a\n    b\n", "line 3: \"a b\" has spaces, and must be the name of one host"),
            ("all:\n  host: {a: }\n", "line 2: unknown key \"host\" in the group \"all\""),
            ("all: {hosts: {a: x}}\n", "line 1: the variables of the host \"a\" must be a map"),
            ("all: {hosts: {1: }}\n", "line 1: a name must be text, and 1 is not"),
            ("- a\n- b\n", "line 1: expected a map of groups, not a list"),
            ("plugin: aws_ec2\nregions: [x]\n", "line 1: the file configures the inventory plugin \"aws_ec2\""),
            ("#!/bin/sh\necho {}\n", "line 1: the file is a script"),
            ("$ANSIBLE_VAULT;1.1;AES256\n6231\n", "line 1: the file is encrypted"),
            ("{\"_meta\": {\"hostvars\": {}}, \"a\": {\"hosts\": [1]}}", "must be a list of names"),
            ("[a]\nh\n[a:vars]\nansible_group_priority=high\n", "line 4: ansible_group_priority of a is \"high\""),
        ] {
            let said = error(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_host_that_needs_what_is_not_evaluated_is_refused_alone() {
        let refused = |text: &str| {
            let read = Inventory::read(text).unwrap();
            assert_eq!(read.hosts.len(), 2, "{text}");
            assert_eq!(read.unusable.len(), 1, "{text}: {:?}", read.unusable);
            read.unusable.values().next().unwrap().to_string()
        };
        for (text, why) in [
            (
                "[a]\nh ansible_host='{{ ip }}'\nk x='{{ y }}'\n",
                "line 2: h: cannot use ansible_host: it is a template ({{ ip }})",
            ),
            ("[a]\nh ansible_user=[1]\nk x=[1]\n", "line 2: h: cannot use ansible_user: it is a list"),
            ("[a]\nh ansible_port=0\nk ansible_port=1\n", "line 2: h: \"0\" is not a port"),
            ("[a]\nh ansible_connection=docker\nk\n", "line 2: h: ansible_connection is \"docker\""),
            ("[a]\nh ansible_host='a b'\nk\n", "line 2: h: cannot use the address \"a b\""),
            (
                "all:\n  hosts:\n    h:\n      ansible_user: !vault |\n        $X\n    k: {x: !vault y}\n",
                "line 4: h: cannot use ansible_user: it is encrypted",
            ),
            ("[a]\nh\n[a:vars]\nansible_user='{{ u }}'\n[b]\nk\n", "line 4: h: cannot use ansible_user"),
        ] {
            let said = refused(text);
            assert!(said.contains(why), "{text}: {said}");
        }
        let own = "[a]\nh ansible_user=x\n[a:vars]\nansible_user='{{ u }}'\n";
        assert!(Inventory::read(own).unwrap().unusable.is_empty(), "its own variable counts before");
    }

    #[test]
    fn every_way_to_write_yaml_is_read() {
        for text in [
            "all:   # everything\n  hosts:\n    h:\n",
            "all: {hosts: {h: {}}}\n",
            "\"all\":\n  hosts:\n    h:\n",
            "{\"all\": {\"hosts\": {\"h\": {}}}}\n",
            "web:\n  hosts: h\n",
            "%YAML 1.1\n---\nall: &x\n  hosts: {h: }\n",
            "{\"_meta\": {\"hostvars\": {\"h\": {}}}, \"all\": {\"children\": [\"ungrouped\"]}, \"ungrouped\": {\"hosts\": [\"h\"]}}",
            "h ansible_port=22\n",
        ] {
            assert_eq!(names(&Inventory::read(text).unwrap().hosts), ["h"], "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]a-c:0-9=\n #'{}-]{0,80}") {
            let _ = Inventory::read(&text);
        }
    }
}
