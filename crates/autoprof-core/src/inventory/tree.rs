//! An inventory as it is written: groups with their own hosts, groups and variables.
use std::collections::HashMap;

use super::{
    error::Problem,
    vars::{PRIORITY, Place, Value, Vars},
};
use crate::host::{MAX_EXPANSION, is_invisible};

/// The group of all hosts.
pub(super) const ALL: &str = "all";
/// The group of hosts that are in no other.
pub(super) const UNGROUPED: &str = "ungrouped";
/// Longest name of a group, in bytes.
const MAX_GROUP_NAME: usize = 256;

/// Which group.
pub(super) type GroupId = usize;
/// Which host.
pub(super) type HostId = usize;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) hosts: Vec<HostId>,
    pub(super) children: Vec<GroupId>,
    pub(super) vars: Vars,
    /// Variables of `group_vars`.
    pub(super) file_vars: Vars,
    pub(super) priority: i64,
}

#[derive(Debug)]
pub(super) struct TreeHost {
    pub(super) name: String,
    /// Where it was named first.
    pub(super) place: Place,
    pub(super) groups: Vec<GroupId>,
    pub(super) vars: Vars,
    /// Variables of `host_vars`.
    pub(super) file_vars: Vars,
}

/// What files of an inventory say, put together in their order.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) groups: Vec<Group>,
    pub(super) hosts: Vec<TreeHost>,
    group_ids: HashMap<String, GroupId>,
    host_ids: HashMap<String, HostId>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut tree =
            Self { groups: Vec::new(), hosts: Vec::new(), group_ids: HashMap::new(), host_ids: HashMap::new() };
        let all = tree.insert_group(ALL);
        let ungrouped = tree.insert_group(UNGROUPED);
        tree.groups[all].children.push(ungrouped);
        tree
    }

    fn insert_group(&mut self, name: &str) -> GroupId {
        let id = self.groups.len();
        self.groups.push(Group {
            name: name.to_owned(),
            hosts: Vec::new(),
            children: Vec::new(),
            vars: Vars::default(),
            file_vars: Vars::default(),
            priority: 1,
        });
        self.group_ids.insert(name.to_owned(), id);
        id
    }

    pub(super) fn group_id(&self, name: &str) -> Option<GroupId> {
        self.group_ids.get(name).copied()
    }

    /// The group of this name, which is made if it is new.
    pub(super) fn group(&mut self, name: &str) -> Result<GroupId, Problem> {
        if let Some(id) = self.group_id(name) {
            return Ok(id);
        }
        // It is shown, and typed after -g.
        if name.is_empty()
            || name.len() > MAX_GROUP_NAME
            || name.contains(is_invisible)
            || self.groups.len() > MAX_EXPANSION
        {
            return Err(Problem::GroupName(name.chars().take(MAX_GROUP_NAME).collect()));
        }
        Ok(self.insert_group(name))
    }

    /// Puts hosts into a group; a port counts for those that are new.
    pub(super) fn add_host(
        &mut self,
        name: &str,
        group: GroupId,
        port: Option<u64>,
        place: Place,
    ) -> Result<(), Problem> {
        let id = match self.host_ids.get(name) {
            Some(id) => *id,
            None => {
                if self.hosts.len() >= MAX_EXPANSION {
                    return Err(Problem::TooManyHosts);
                }
                let mut vars = Vars::default();
                if let Some(port) = port.filter(|port| *port > 0) {
                    vars.set("ansible_port", Value::Scalar(port.to_string()), place);
                }
                let id = self.hosts.len();
                let (groups, file_vars) = (Vec::new(), Vars::default());
                self.hosts.push(TreeHost { name: name.to_owned(), place, groups, vars, file_vars });
                self.host_ids.insert(name.to_owned(), id);
                id
            }
        };
        if !self.hosts[id].groups.contains(&group) {
            self.hosts[id].groups.push(group);
            self.groups[group].hosts.push(id);
        }
        Ok(())
    }

    pub(super) fn add_child(&mut self, group: GroupId, child: GroupId) -> Result<(), Problem> {
        if group == child {
            return Err(Problem::Cycle(self.groups[group].name.clone()));
        }
        if !self.groups[group].children.contains(&child) {
            self.groups[group].children.push(child);
        }
        Ok(())
    }

    pub(super) fn set_group_var(
        &mut self,
        group: GroupId,
        name: &str,
        value: Value,
        place: Place,
    ) -> Result<(), Problem> {
        let group = &mut self.groups[group];
        if name != PRIORITY {
            group.vars.set(name, value, place);
            return Ok(());
        }
        let text = match &value {
            Value::Text(text) | Value::Scalar(text) => text.clone(),
            Value::Null | Value::Other(_) => String::new(),
        };
        let number = match text.as_str() {
            "True" => Some(1),
            "False" => Some(0),
            text => text.trim().parse().ok(),
        };
        group.priority = number.ok_or_else(|| Problem::Priority { group: group.name.clone(), value: text })?;
        Ok(())
    }

    /// Sets a variable of a host, or of the group that has its name, as Ansible does.
    pub(super) fn set_host_var(&mut self, host: &str, name: &str, value: Value, place: Place) -> Result<(), Problem> {
        if let Some(group) = self.group_id(host) {
            return self.set_group_var(group, name, value, place);
        }
        if let Some(id) = self.host_ids.get(host) {
            self.hosts[*id].vars.set(name, value, place);
        }
        Ok(())
    }
}
