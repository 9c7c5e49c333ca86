//! Inventories as Ansible reads them: the same hosts, groups and ways to reach them, over generated inventories.
//!
//! `INVENTORY_SEED` and `INVENTORY_COUNT` choose others than the fixed ones (`just inventory-test`).
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

use autoprof_core::inventory::Inventory;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

mod generate;

use generate::{Dice, Generated};

const SEED: u64 = 20_261_128;
const COUNT: usize = 1000;

/// Python with ansible-core, where `scripts/setup.sh` puts it; none: the test is skipped, which in CI is a failure.
fn python() -> Option<Utf8PathBuf> {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ansible-venv/bin/python");
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: ansible-core is not installed in target/ansible-venv (just setup)");
    assert!(std::env::var_os("CI").is_none(), "ansible-core is not installed in target/ansible-venv");
    None
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// What Ansible makes of each inventory.
fn answers(python: &Utf8Path, root: &Utf8Path, paths: &[Utf8PathBuf]) -> Vec<Value> {
    let script = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventory/oracle.py");
    let mut child = Command::new(python)
        .arg(script)
        .env("HOME", root)
        .env("ANSIBLE_CONFIG", settings(root))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = paths.iter().map(|path| format!("{path}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = BufReader::new(child.stdout.take().unwrap());
    let answers = output.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    writer.join().unwrap().unwrap();
    child.wait().unwrap();
    answers
}

/// Settings of Ansible that are its defaults, whatever this machine has.
fn settings(root: &Utf8Path) -> Utf8PathBuf {
    let path = root.join("ansible.cfg");
    std::fs::write(&path, "").unwrap();
    path
}

fn write(directory: &Utf8Path, generated: &Generated) {
    use std::os::unix::fs::PermissionsExt as _;
    for (name, content) in &generated.files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        if content.starts_with("#!") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

/// What differs; none where nothing does.
fn difference(ours: &Result<Inventory, autoprof_core::inventory::BadInventory>, theirs: &Value) -> Option<String> {
    let ours = match (ours, theirs.get("error")) {
        (Err(_), Some(_)) => return None,
        (Err(e), None) => return Some(format!("refused: {e}")),
        (Ok(_), Some(error)) => return Some(format!("read, but Ansible says {error}")),
        (Ok(ours), None) => ours,
    };
    let hosts = theirs["hosts"].as_object().unwrap();
    let names: BTreeSet<&str> = ours.hosts.iter().map(|host| host.name.as_str()).collect();
    let expected: BTreeSet<&str> = hosts.keys().map(String::as_str).collect();
    if names != expected {
        return Some(format!("hosts {names:?}, expected {expected:?}"));
    }
    let members = |groups: BTreeMap<&str, BTreeSet<&str>>| -> BTreeMap<String, BTreeSet<String>> {
        let kept = groups.into_iter().filter(|(name, members)| *name != "ungrouped" || !members.is_empty());
        kept.map(|(name, of)| (name.to_owned(), of.into_iter().map(str::to_owned).collect())).collect()
    };
    let groups =
        members(ours.groups.iter().map(|(n, of)| (n.as_str(), of.iter().map(String::as_str).collect())).collect());
    let of = |list: &Value| -> BTreeSet<String> { serde_json::from_value(list.clone()).unwrap() };
    let theirs_of: BTreeMap<String, BTreeSet<String>> =
        theirs["groups"].as_object().unwrap().iter().map(|(name, list)| (name.clone(), of(list))).collect();
    let expected =
        members(theirs_of.iter().map(|(n, of)| (n.as_str(), of.iter().map(String::as_str).collect())).collect());
    if groups != expected {
        return Some(format!("groups {groups:?}, expected {expected:?}"));
    }
    for host in &ours.hosts {
        let known = &hosts[&host.name];
        let is_odd = known.as_object().unwrap().values().any(|value| value.get("odd").is_some());
        let connection = known["connection"].as_str().unwrap_or("ssh");
        let other = !["ssh", "smart", "local"].contains(&connection);
        let unusable = ours.unusable.get(&host.name);
        // A name or address with a blank or quote in it, or a dash before it, is nothing that could be connected to.
        let is_bad = |name: &str| name.starts_with('-') || name.contains([' ', '\t', '\'', '"', '#', ',']);
        let bad_address = known["host"].as_str().is_some_and(is_bad) || is_bad(&host.name);
        let is_local = connection == "local";
        if let Some(why) = unusable {
            if !(is_odd || other || bad_address) {
                return Some(format!("{} is refused: {why}; expected {known}", host.name));
            }
            continue;
        }
        if (host.transport == "local") != is_local {
            return Some(format!("{}: transport {}, expected {connection}", host.name, host.transport));
        }
        if is_local {
            continue;
        }
        if is_odd || other {
            return Some(format!("{} is not refused: {known}", host.name));
        }
        let address = known["host"].as_str().unwrap_or(&host.name);
        // What ssh does with `user@host`, which Ansible takes for a name.
        let split = known["host"].is_null() && host.name.contains('@');
        let user = known["user"].as_str();
        if host.address() != address && !split {
            return Some(format!("{}: address {}, expected {address}", host.name, host.address()));
        }
        if host.user.as_deref() != user && !split {
            return Some(format!("{}: user {:?}, expected {user:?}", host.name, host.user));
        }
        let (port, key) = (host.port.map(|port| port.to_string()), host.identity_file.as_ref().map(|p| p.as_str()));
        if port.as_deref() != known["port"].as_str() || key != known["key"].as_str() {
            return Some(format!("{}: port {port:?}, key {key:?}, expected {known}", host.name));
        }
    }
    None
}

#[test]
fn generated_inventories_mean_what_ansible_says() {
    let Some(python) = python() else { return };
    let seed = number("INVENTORY_SEED").unwrap_or(SEED);
    let count = number("INVENTORY_COUNT").map_or(COUNT, |count| usize::try_from(count).unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(scratch.path()).unwrap();
    let mut dice = Dice::new(seed);
    let generated: Vec<Generated> = (0..count).map(|_| generate::inventory(&mut dice)).collect();
    let directories: Vec<_> = (0..count).map(|nth| root.join(nth.to_string())).collect();
    directories.iter().zip(&generated).for_each(|(directory, one)| write(directory, one));
    let theirs: Vec<_> =
        directories.iter().zip(&generated).map(|(directory, one)| directory.join(one.theirs)).collect();
    let began = Instant::now();
    let answers = answers(&python, root, &theirs);
    let took = began.elapsed();
    assert_eq!(answers.len(), count, "Ansible ended early");
    let (mut differences, mut read, mut hosts) = (Vec::new(), 0, 0);
    for ((directory, one), theirs) in directories.iter().zip(&generated).zip(&answers) {
        let ours = Inventory::load(&directory.join(one.ours));
        if let Ok(ours) = &ours {
            read += 1;
            hosts += ours.hosts.len();
        }
        if let Some(difference) = difference(&ours, theirs) {
            let files: String = one.files.iter().map(|(name, content)| format!("--- {name}\n{content}")).collect();
            differences.push(format!("{difference}\n{files}"));
        }
    }
    differences.iter().for_each(|one| println!("difference: {}", one.lines().next().unwrap_or_default()));
    println!(
        "seed {seed}: {count} inventories, {read} read, {} refused by both, {hosts} hosts; Ansible took {took:?}",
        count - read
    );
    assert!(
        differences.is_empty(),
        "seed {seed}: {} differences, such as\n{}",
        differences.len(),
        differences.iter().take(5).cloned().collect::<Vec<_>>().join("\n")
    );
    assert!(read > count / 2 && hosts > count, "too few inventories are sound: {read}, {hosts} hosts");
}

#[test]
fn what_ansible_inventory_prints_means_the_same() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(scratch.path()).unwrap();
    let program = python.with_file_name("ansible-inventory");
    let inventory = root.join("inv.ini");
    std::fs::write(&inventory, "alone\n[web]\nw[1:2] ansible_user=ops\n[db]\nd1 ansible_host=10.0.0.1\n[site:children]\nweb\ndb\n[site:vars]\nansible_port=2222\nansible_user=all\n").unwrap();
    let first = Inventory::load(&inventory).unwrap();
    for more in [&["--list"][..], &["--list", "--export"], &["--list", "--yaml"], &["--list", "--export", "--yaml"]] {
        let out = Command::new(&program)
            .arg("-i")
            .arg(&inventory)
            .args(more)
            .env("ANSIBLE_CONFIG", settings(root))
            .output()
            .unwrap();
        let printed = root.join("printed");
        std::fs::write(&printed, &out.stdout).unwrap();
        let again = Inventory::load(&printed).unwrap_or_else(|e| panic!("{more:?}: {e}"));
        let by_name = |inventory: &Inventory| -> BTreeMap<_, _> {
            inventory
                .hosts
                .iter()
                .map(|host| (host.name.clone(), (host.address().to_owned(), host.user.clone(), host.port)))
                .collect()
        };
        assert_eq!(by_name(&first), by_name(&again), "{more:?}");
        assert_eq!(first.groups, again.groups, "{more:?}");
    }
}
