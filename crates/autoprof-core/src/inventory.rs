//! Files of hosts: a host a line, with or without a label, or an inventory of Ansible's, as INI or YAML.
//!
//! Of an inventory are read: hosts with their ranges, groups, groups of groups, and those variables that say how a host
//! is reached. Source: Ansible's documentation, "How to build your inventory". Templates and encrypted values are not
//! evaluated.
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::Value;

use crate::{
    groups::{Members, is_group_name},
    host::{BadHost, Host, LOCAL, MAX_EXPANSION, check_name},
};

/// Most groups in groups: deeper there is a circle.
const DEEPEST: usize = 32;

/// Hosts, and the groups that they are in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// The hosts, in the file's order.
    pub hosts: Vec<Host>,
    /// Names of hosts by group; empty for a file without labels.
    pub groups: Members,
}

/// Variables of a host or group, as far as they say how a host is reached.
type Vars = BTreeMap<String, String>;

/// An inventory as it is written: groups with their own hosts, groups and variables.
#[derive(Debug, Default)]
struct Tree {
    order: Vec<String>,
    vars_of_hosts: BTreeMap<String, Vars>,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    hosts: BTreeSet<String>,
    children: BTreeSet<String>,
    vars: Vars,
}

impl Inventory {
    /// Reads a file of hosts, whichever of the three forms it has.
    ///
    /// # Errors
    /// What cannot be read, with its line where it has one.
    pub fn read(text: &str) -> Result<Self, BadHost> {
        let mut lines =
            text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', ';']) && *l != "---");
        let first = lines.next().unwrap_or_default();
        let is_yaml = first.ends_with(':') && !first.starts_with('[');
        if is_yaml {
            return Tree::of_yaml(text)?.resolve();
        }
        if std::iter::once(first).chain(lines).any(|line| section(line).is_some()) {
            return Tree::of_ini(text)?.resolve();
        }
        lines::read(text)
    }

    /// Only the hosts of a group; none: there is no group of this name.
    #[must_use]
    pub fn of_group(&self, group: &str) -> Option<Vec<Host>> {
        let members = self.groups.get(group)?;
        Some(self.hosts.iter().filter(|host| members.contains(&host.name)).cloned().collect())
    }
}

fn bad(text: impl Into<String>, reason: impl Into<String>) -> BadHost {
    BadHost { text: text.into(), reason: reason.into() }
}

/// The name and the kind of a section's line: `[web]`, `[web:vars]`, `[all:children]`.
fn section(line: &str) -> Option<(&str, &str)> {
    let inner = line.strip_prefix('[')?.strip_suffix(']')?;
    let (name, kind) = inner.split_once(':').unwrap_or((inner, "hosts"));
    // `[1:3]` alone is a range without a host's name; `[2001:db8::1]` is an address.
    (is_group_name(name) && ["hosts", "vars", "children"].contains(&kind)).then_some((name, kind))
}

impl Tree {
    fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    fn host(&mut self, pattern: &str, group: &str, vars: &Vars) -> Result<(), BadHost> {
        for name in expand(pattern)? {
            if !self.vars_of_hosts.contains_key(&name) {
                if self.order.len() >= MAX_EXPANSION {
                    return Err(bad(pattern, format!("more than {MAX_EXPANSION} hosts")));
                }
                check_name(&name).map_err(|reason| bad(&*name, reason))?;
                self.order.push(name.clone());
            }
            self.vars_of_hosts.entry(name.clone()).or_default().extend(vars.clone());
            self.group(group).hosts.insert(name);
        }
        Ok(())
    }

    fn of_ini(text: &str) -> Result<Self, BadHost> {
        let mut tree = Self::default();
        let (mut name, mut kind) = ("ungrouped", "hosts");
        for (nth, line) in text.lines().enumerate() {
            let at_line = |e: BadHost| BadHost { reason: format!("line {}: {}", nth + 1, e.reason), ..e };
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(found) = section(line) {
                (name, kind) = found;
                tree.group(name);
                continue;
            }
            // A comment may follow what is said, after a blank.
            let line = line.split_once(" #").map_or(line, |(before, _)| before);
            match kind {
                "vars" => {
                    let (key, value) =
                        line.split_once('=').ok_or_else(|| at_line(bad(line, "a variable is KEY=VALUE")))?;
                    let value = value.trim().trim_matches(['"', '\'']).to_owned();
                    tree.group(name).vars.insert(key.trim().to_owned(), value);
                }
                "children" => {
                    tree.group(line);
                    tree.group(name).children.insert(line.to_owned());
                }
                _ => {
                    let words = shell_words::split(line).map_err(|e| at_line(bad(line, e.to_string())))?;
                    let (pattern, settings) = words.split_first().ok_or_else(|| at_line(bad(line, "no host")))?;
                    let mut vars = Vars::new();
                    for setting in settings {
                        let (key, value) = setting
                            .split_once('=')
                            .ok_or_else(|| at_line(bad(setting, "what follows a host is KEY=VALUE")))?;
                        vars.insert(key.to_owned(), value.to_owned());
                    }
                    tree.host(pattern, name, &vars).map_err(at_line)?;
                }
            }
        }
        Ok(tree)
    }

    fn of_yaml(text: &str) -> Result<Self, BadHost> {
        let whole: Value = serde_yaml::from_str(text).map_err(|e| bad("the inventory", e.to_string()))?;
        let mut tree = Self::default();
        for (name, group) in entries(&whole) {
            tree.yaml_group(&name, group, 0)?;
        }
        Ok(tree)
    }

    fn yaml_group(&mut self, name: &str, content: &Value, depth: usize) -> Result<(), BadHost> {
        if depth > DEEPEST {
            return Err(bad(name, "groups in groups go too deep"));
        }
        self.group(name);
        for (pattern, vars) in entries(&content["hosts"]) {
            self.host(&pattern, name, &vars_of(vars))?;
        }
        let vars = vars_of(&content["vars"]);
        self.group(name).vars.extend(vars);
        for (child, content) in entries(&content["children"]) {
            self.group(name).children.insert(child.clone());
            self.yaml_group(&child, content, depth + 1)?;
        }
        Ok(())
    }

    /// What a group's hosts are, those of its groups included.
    fn members(&self, name: &str, depth: usize) -> Result<BTreeSet<String>, BadHost> {
        if depth > DEEPEST {
            return Err(bad(name, "the group is in itself"));
        }
        let Some(group) = self.groups.get(name) else { return Ok(BTreeSet::new()) };
        let mut members = group.hosts.clone();
        for child in &group.children {
            members.extend(self.members(child, depth + 1)?);
        }
        Ok(members)
    }

    fn resolve(self) -> Result<Inventory, BadHost> {
        let mut groups = BTreeMap::new();
        for name in self.groups.keys() {
            groups.insert(name.clone(), self.members(name, 0)?);
        }
        groups.insert("all".to_owned(), self.order.iter().cloned().collect());
        // A group within another has the say before it, and `all` has it last: the fewer hosts, the nearer.
        let mut by_size: Vec<(&String, usize)> = groups.iter().map(|(name, members)| (name, members.len())).collect();
        by_size.sort_by(|a, b| (a.0 == "all", a.1, a.0).cmp(&(b.0 == "all", b.1, b.0)));
        let host = |name: &String| {
            let mut vars = self.vars_of_hosts.get(name).cloned().unwrap_or_default();
            for group in by_size.iter().map(|(group, _)| *group).filter(|group| groups[*group].contains(name)) {
                for (key, value) in self.groups.get(group).into_iter().flat_map(|group| &group.vars) {
                    vars.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            reached(name, &vars)
        };
        let hosts = self.order.iter().map(host).collect::<Result<_, _>>()?;
        Ok(Inventory { hosts, groups })
    }
}

/// How a host is reached, by Ansible's variables for it.
fn reached(name: &str, vars: &Vars) -> Result<Host, BadHost> {
    let var = |names: &[&str]| -> Result<Option<String>, BadHost> {
        let found = names.iter().find_map(|name| vars.get(*name)).cloned();
        match found {
            Some(value) if value.contains("{{") => Err(bad(name, format!("{value}: templates are not evaluated"))),
            found => Ok(found.filter(|value| !value.is_empty())),
        }
    };
    let mut host = Host::named(name);
    if name == LOCAL || var(&["ansible_connection"])?.as_deref() == Some(LOCAL) {
        host.transport = LOCAL.to_owned();
        return Ok(host);
    }
    host.address = var(&["ansible_host", "ansible_ssh_host"])?.filter(|address| address != name);
    if let Some(address) = &host.address {
        check_name(address).map_err(|reason| bad(name, reason))?;
    }
    host.user = var(&["ansible_user", "ansible_ssh_user"])?;
    host.identity_file = var(&["ansible_ssh_private_key_file", "ansible_private_key_file"])?.map(Into::into);
    let port = var(&["ansible_port", "ansible_ssh_port"])?;
    host.port = port
        .map(|port| port.parse().ok().filter(|port| *port > 0).ok_or_else(|| bad(name, format!("{port} is no port"))))
        .transpose()?;
    Ok(host)
}

/// The entries of a map, with text for keys; of anything else there are none.
fn entries(value: &Value) -> impl Iterator<Item = (String, &Value)> {
    let pairs = value.as_mapping().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((scalar(key)?, value)))
}

fn vars_of(value: &Value) -> Vars {
    entries(value).filter_map(|(key, value)| Some((key, scalar(value)?))).collect()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Ansible's ranges: `web[01:03]` and `db-[a:c]`, both ends included.
fn expand(pattern: &str) -> Result<Vec<String>, BadHost> {
    let Some((before, rest)) = pattern.split_once('[') else { return Ok(vec![pattern.to_owned()]) };
    let (range, after) = rest.split_once(']').ok_or_else(|| bad(pattern, "[ without ]"))?;
    let not_a_range = || bad(pattern, "brackets hold a range such as [01:50] or [a:f]");
    let (low, high) = range.split_once(':').ok_or_else(not_a_range)?;
    let middle: Vec<String> = match (low.parse::<u64>(), high.parse::<u64>()) {
        (Ok(from), Ok(to)) => {
            let width = if low.starts_with('0') { low.len() } else { 0 };
            if to.saturating_sub(from) >= MAX_EXPANSION as u64 {
                return Err(bad(pattern, format!("more than {MAX_EXPANSION} hosts")));
            }
            (from..=to).map(|n| format!("{n:0width$}")).collect()
        }
        _ => match (low.as_bytes(), high.as_bytes()) {
            ([from], [to]) if from.is_ascii_alphabetic() && to.is_ascii_alphabetic() => {
                (*from..=*to).map(|letter| char::from(letter).to_string()).collect()
            }
            _ => return Err(not_a_range()),
        },
    };
    let rests = expand(after)?;
    if middle.is_empty() || middle.len().saturating_mul(rests.len()) > MAX_EXPANSION {
        return Err(not_a_range());
    }
    Ok(middle.iter().flat_map(|middle| rests.iter().map(move |rest| format!("{before}{middle}{rest}"))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert!(error("[a]\nhost port\n").contains("line 2: what follows a host is KEY=VALUE"));
        assert!(error("[a]\nweb[3:x]\n").contains("line 2: brackets hold a range"));
        assert!(error("[a]\nh ansible_host={{ ip }}\n").contains("what follows a host"));
        assert!(error("[a]\nh ansible_host='{{ ip }}'\n").contains("templates are not evaluated"));
        assert!(error("[a:children]\nb\n[b:children]\na\n").contains("in itself"));
        assert!(error("all:\n  hosts: [\n").contains("the inventory"));
        assert!(error("[a]\nh ansible_port=0\n").contains("0 is no port"));
        assert!(error("[a]\na[1:9][0:99999999]\n").contains("more than"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]a-c:0-9=\n #'{}-]{0,80}") {
            let _ = Inventory::read(&text);
        }
    }
}
