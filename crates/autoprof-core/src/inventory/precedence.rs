//! Which group's variable counts for a host: a deeper group's before its parents', then by `ansible_group_priority`,
//! then the last of the alphabet; a host's own before all.
//!
//! Source: `InventoryData.reconcile_inventory`, `sort_groups` and `VariableManager.get_vars` of Ansible.
use std::{collections::HashMap, rc::Rc};

use super::{
    error::Problem,
    tree::{ALL, GroupId, HostId, Tree, UNGROUPED},
    vars::Vars,
};

/// A tree with what follows from it.
pub(super) struct Resolved {
    tree: Tree,
    /// Parents of each group.
    parents: Vec<Vec<GroupId>>,
    /// The longest way from `all` to each group.
    depths: Vec<usize>,
    all: GroupId,
    /// Groups of a host in the order in which they count, by the groups that it is in itself.
    known: HashMap<Vec<GroupId>, Rc<Vec<GroupId>>>,
}

impl Resolved {
    /// Completes a tree: every group is below `all`, and a host that is in no other group is in `ungrouped`.
    ///
    /// # Errors
    /// When a group is in itself.
    pub(super) fn of(mut tree: Tree) -> Result<Self, Problem> {
        let (all, ungrouped) = (tree.group(ALL)?, tree.group(UNGROUPED)?);
        let mut has_parent = vec![false; tree.groups.len()];
        for child in tree.groups.iter().flat_map(|group| &group.children) {
            has_parent[*child] = true;
        }
        if has_parent[all] {
            return Err(Problem::Cycle(ALL.to_owned()));
        }
        for (id, _) in has_parent.iter().enumerate().filter(|(id, has)| !**has && *id != all) {
            tree.groups[all].children.push(id);
        }
        let depths = depths(&tree, all)?;
        let mut parents = vec![Vec::new(); tree.groups.len()];
        for (id, group) in tree.groups.iter().enumerate() {
            group.children.iter().for_each(|child| parents[*child].push(id));
        }
        // Where a group has `ungrouped` in it, a host of it is in that group, too.
        let below_others = parents[ungrouped].iter().any(|parent| *parent != all);
        for id in 0..tree.hosts.len() {
            let others = tree.hosts[id].groups.iter().any(|group| ![all, ungrouped].contains(group)) || below_others;
            let is_in = tree.hosts[id].groups.contains(&ungrouped);
            if is_in && others {
                tree.hosts[id].groups.retain(|group| *group != ungrouped);
                tree.groups[ungrouped].hosts.retain(|host| *host != id);
            } else if !is_in && !others {
                tree.hosts[id].groups.push(ungrouped);
                tree.groups[ungrouped].hosts.push(id);
            }
        }
        Ok(Self { tree, parents, depths, all, known: HashMap::new() })
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The variables that count for a host.
    pub(super) fn vars(&mut self, host: HostId) -> Vars {
        let groups = self.groups_of(host);
        let host = &self.tree.hosts[host];
        let all = &self.tree.groups[self.all];
        let mut vars = all.vars.clone();
        groups.iter().for_each(|group| vars.extend(&self.tree.groups[*group].vars));
        vars.extend(&all.file_vars);
        groups.iter().for_each(|group| vars.extend(&self.tree.groups[*group].file_vars));
        vars.extend(&host.vars);
        vars.extend(&host.file_vars);
        vars
    }

    /// The groups of a host but `all`: first those that count least.
    fn groups_of(&mut self, host: HostId) -> Rc<Vec<GroupId>> {
        let mut own = self.tree.hosts[host].groups.clone();
        own.sort_unstable();
        if let Some(known) = self.known.get(&own) {
            return Rc::clone(known);
        }
        let mut seen = vec![false; self.tree.groups.len()];
        let mut open = own.clone();
        while let Some(group) = open.pop() {
            if !std::mem::replace(&mut seen[group], true) {
                open.extend(&self.parents[group]);
            }
        }
        let mut groups: Vec<GroupId> = (0..seen.len()).filter(|id| seen[*id] && *id != self.all).collect();
        let key = |id: &GroupId| (self.depths[*id], self.tree.groups[*id].priority, &self.tree.groups[*id].name);
        groups.sort_by(|a, b| key(a).cmp(&key(b)));
        let groups = Rc::new(groups);
        self.known.insert(own, Rc::clone(&groups));
        groups
    }

    /// Hosts of each group, with those of its groups.
    pub(super) fn members(&self) -> Vec<Vec<HostId>> {
        // From the deepest up: a group's children are deeper than it.
        let mut order: Vec<GroupId> = (0..self.tree.groups.len()).collect();
        order.sort_by_key(|id| std::cmp::Reverse(self.depths[*id]));
        let mut members: Vec<Vec<HostId>> = vec![Vec::new(); order.len()];
        for id in order {
            let group = &self.tree.groups[id];
            let mut hosts = group.hosts.clone();
            group.children.iter().for_each(|child| hosts.extend(&members[*child]));
            hosts.sort_unstable();
            hosts.dedup();
            members[id] = hosts;
        }
        members
    }
}

/// The longest way to each group.
fn depths(tree: &Tree, all: GroupId) -> Result<Vec<usize>, Problem> {
    let mut waiting = vec![0usize; tree.groups.len()];
    for child in tree.groups.iter().flat_map(|group| &group.children) {
        waiting[*child] += 1;
    }
    let mut depths = vec![0; tree.groups.len()];
    let (mut open, mut done) = (vec![all], 0);
    while let Some(id) = open.pop() {
        done += 1;
        for child in &tree.groups[id].children {
            depths[*child] = depths[*child].max(depths[id] + 1);
            waiting[*child] -= 1;
            if waiting[*child] == 0 {
                open.push(*child);
            }
        }
    }
    if done < tree.groups.len() {
        // A group that waits for itself, or for one that does; the first of the file is named.
        let stuck = (0..waiting.len()).find(|id| waiting[*id] > 0 && reaches(tree, *id));
        let stuck = stuck.or_else(|| waiting.iter().position(|count| *count > 0)).unwrap_or(all);
        return Err(Problem::Cycle(tree.groups[stuck].name.clone()));
    }
    Ok(depths)
}

/// Whether a group is in itself.
fn reaches(tree: &Tree, from: GroupId) -> bool {
    let mut seen = vec![false; tree.groups.len()];
    let mut open = tree.groups[from].children.clone();
    while let Some(id) = open.pop() {
        if id == from {
            return true;
        }
        if !std::mem::replace(&mut seen[id], true) {
            open.extend(&tree.groups[id].children);
        }
    }
    false
}
