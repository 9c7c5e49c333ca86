//! Inventories by chance, from a seed: ordinary ones, with the odd corners of each form.

/// Numbers by chance: the same for the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("small")
    }

    /// One time in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Files of one inventory, relative to its directory.
pub struct Generated {
    /// Which file autoprof is given.
    pub ours: &'static str,
    /// Which file Ansible is given.
    pub theirs: &'static str,
    pub files: Vec<(String, String)>,
}

const GROUPS: [&str; 12] = ["a", "b", "c", "d", "web", "db", "db-1", "z.9", "Zoo", "prod", "a1", "_x"];
const HOSTS: [&str; 24] = [
    "web1",
    "web2",
    "db1",
    "db2",
    "n01",
    "n02",
    "10.0.0.1",
    "10.0.0.2",
    "host.example.com",
    "2001:db8::1",
    "x_1",
    "n[01:03]",
    "n[1:9:3]",
    "www[01:07:2].example.com",
    "db-[a:c]",
    "r[1:2]n[a:b]",
    "n[:2]",
    "v[y:B]",
    "10.0.0.[1:3]",
    "web1:2222",
    "n[1:2]:2200",
    "[2001:db8::2]:22",
    "[n01]:24",
    "wEb1",
];
/// Patterns that neither reads, or that both take for something odd.
const ODD_HOSTS: [&str; 9] =
    ["n[aa:ac]", "n[1-3]", "n[01:7]", "n[1:]", "n[1:3:0]", "web_:22", "root@web1", "root@web1:22", "-x:22"];
const VARIABLES: [&str; 13] = [
    "ansible_host",
    "ansible_ssh_host",
    "ansible_user",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_port",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
    "ansible_connection",
    "other",
    "ansible_become",
];

fn values_of(variable: &str) -> &'static [&'static str] {
    match variable {
        "ansible_host" | "ansible_ssh_host" => {
            &["10.1.1.1", "10.1.1.2", "gate.example.com", "2001:db8::7", "h1", "\"q.example.com\"", "None"]
        }
        "ansible_user" | "ansible_ssh_user" => &[
            "root",
            "ops",
            "'quoted'",
            "\"double\"",
            "User_1",
            "None",
            "\"'both'\"",
            "12",
            "1_000",
            "0x10",
            "010",
            "1e3",
            "1.50",
            "True",
            "true",
            "yes",
            "a#b",
            "\"a b\"",
            "'a' 'b'",
            "'#'",
            "back\\\\slash",
            "é",
            "{{ user }}",
            "'{{ user }}'",
            "[1, 2]",
            "a=b",
            "-5",
            "(7)",
            "1.0",
            "off",
            "1:30",
            "~",
            "null",
            "0b11",
            "+3",
            "1e16",
            "'it''s'",
        ],
        "ansible_port" | "ansible_ssh_port" => {
            &["22", "2222", "'2222'", "\"2200\"", "0x16", "022", "None", "22.0", "x", "1_0"]
        }
        "ansible_connection" => &["ssh", "local", "smart", "'local'", "docker"],
        "ansible_become" => &["true", "[1", "'{{ x }}'", "{'a': 1}"],
        _ => &["1", "[a, b]", "'x y'", "{{ z }}", "{'a': [1]}", "\"#\""],
    }
}

/// One inventory.
pub fn inventory(dice: &mut Dice) -> Generated {
    let form = dice.below(10);
    let (ours, theirs, mut files) = match form {
        0..=4 => {
            let name = dice.pick(&["hosts", "inv.ini", "inv"]);
            (name, name, vec![(name.to_owned(), ini(dice))])
        }
        5..=7 => {
            let name = dice.pick(&["inv.yml", "inv.yaml", "hosts"]);
            (name, name, vec![(name.to_owned(), yaml(dice))])
        }
        8 => ("inv.json", "inv.json", vec![("inv.json".to_owned(), nested_json(dice))]),
        _ => {
            let output = script_json(dice);
            let script = format!("#!/bin/sh\ncat <<'END'\n{output}\nEND\n");
            ("inv.json", "script", vec![("inv.json".to_owned(), output), ("script".to_owned(), script)])
        }
    };
    if dice.one_in(4) {
        for _ in 0..=dice.below(3) {
            let (directory, name) = match dice.one_in(2) {
                true => ("group_vars", dice.pick(&["all", "a", "web", "db-1", "ungrouped"])),
                false => ("host_vars", dice.pick(&["web1", "n01", "10.0.0.1"])),
            };
            let ending = dice.pick(&["", ".yml", ".yaml", ".json", "/main.yml", "/.hidden.yml", "/b.txt"]);
            let path = format!("{directory}/{name}{ending}");
            let clash = |known: &str| known.starts_with(&format!("{directory}/{name}")) && known != path;
            if files.iter().all(|(known, _)| !clash(known) && *known != path) {
                let variable = dice.pick(&VARIABLES);
                let value = dice.pick(values_of(variable));
                // What is no value of YAML's on one line is left out.
                let odd = value.starts_with(['{', '['])
                    || value.contains("' ")
                    || value.contains("\" ")
                    || value.contains("''");
                files.push((path, format!("# vars\n{variable}: {}\n", if odd { "~" } else { value })));
            }
        }
    }
    Generated { ours, theirs, files }
}

fn comment(dice: &mut Dice) -> &'static str {
    dice.pick(&["", "", "", "", " # comment", "\t#x", "   "])
}

fn host(dice: &mut Dice) -> &'static str {
    if dice.one_in(60) { dice.pick(&ODD_HOSTS) } else { dice.pick(&HOSTS) }
}

fn ini(dice: &mut Dice) -> String {
    let mut out = String::new();
    let used: Vec<&str> = (0..=dice.below(6)).map(|_| dice.pick(&GROUPS)).collect();
    if dice.one_in(2) {
        out.push_str("; before any section\n");
    }
    if dice.one_in(3) {
        host_lines(dice, &mut out);
    }
    for _ in 0..=dice.below(8) {
        let group = if dice.one_in(8) { dice.pick(&["all", "ungrouped"]) } else { dice.pick(&used) };
        match dice.below(6) {
            0 | 1 if group != "ungrouped" => {
                out.push_str(&format!("[{group}:children]{}\n", comment(dice)));
                for _ in 0..=dice.below(3) {
                    // Mostly of one direction, so that there are few circles.
                    let child = dice.pick(&used);
                    if child > group || dice.one_in(20) {
                        out.push_str(&format!("{child}{}\n", comment(dice)));
                    }
                }
            }
            2 | 3 => {
                out.push_str(&format!("[{group}:vars]\n"));
                for _ in 0..=dice.below(3) {
                    if dice.one_in(5) {
                        out.push_str(&format!(
                            "ansible_group_priority={}\n",
                            dice.pick(&["1", "2", "10", "'5'", "-1"])
                        ));
                        continue;
                    }
                    let variable = dice.pick(&VARIABLES);
                    let equals = dice.pick(&["=", " = ", "= "]);
                    out.push_str(&format!("{variable}{equals}{}{}\n", dice.pick(values_of(variable)), comment(dice)));
                }
            }
            _ => {
                out.push_str(&format!("[{group}]{}\n", comment(dice)));
                host_lines(dice, &mut out);
            }
        }
        if dice.one_in(3) {
            out.push_str("\n# between\n");
        }
    }
    // Most of what is named is defined.
    if !dice.one_in(6) {
        used.iter().for_each(|group| out.push_str(&format!("[{group}]\n")));
    }
    if dice.one_in(40) {
        out.push_str(dice.pick(&[
            "[a b]\n",
            "[a:hosts]\nx\n",
            "[a:nonsense]\n",
            "[a]\nh word\n",
            "[a]\nh x='open\n",
            "[a:vars]\nword\n",
        ]));
    }
    if dice.one_in(10) { out.replace('\n', "\r\n") } else { out }
}

fn host_lines(dice: &mut Dice, out: &mut String) {
    for _ in 0..=dice.below(4) {
        out.push_str(dice.pick(&["", "", "", "  "]));
        out.push_str(host(dice));
        for _ in 0..dice.below(3) {
            let variable = dice.pick(&VARIABLES);
            out.push_str(&format!(" {variable}={}", dice.pick(values_of(variable))));
        }
        out.push_str(comment(dice));
        out.push('\n');
    }
}

/// A scalar as it can be written in YAML.
fn scalar(dice: &mut Dice, variable: &str) -> &'static str {
    match variable {
        _ if dice.one_in(40) => "!vault |\n              $ANSIBLE_VAULT;1.1;AES256\n              6231",
        _ if dice.one_in(40) => "[x, y]",
        _ if dice.one_in(40) => "{x: y}",
        "ansible_host" | "ansible_ssh_host" => {
            dice.pick(&["10.1.1.1", "h1", "'q.example.com'", "\"2001:db8::7\"", "~", "\"{{ ip }}\""])
        }
        "ansible_user" | "ansible_ssh_user" => dice.pick(&[
            "root",
            "ops",
            "'quoted'",
            "12",
            "010",
            "0x10",
            "1_000",
            "1.50",
            "1e3",
            "1.0e+3",
            "yes",
            "Off",
            "'yes'",
            "null",
            "1:30",
            "a#b",
            "a # b",
            "\"a b\"",
            "0o7",
            "08",
            "~",
            "\"{{ user }}\"",
            "!unsafe raw",
            "-5",
            "+7",
            ".5",
            "0b11",
            "y",
            "é",
            "1.",
        ]),
        "ansible_port" | "ansible_ssh_port" => dice.pick(&["22", "2222", "'2222'", "0x16", "026", "~", "22.0", "x"]),
        "ansible_connection" => dice.pick(&["ssh", "local", "docker"]),
        _ if variable.contains("key_file") => dice.pick(&["~/.ssh/id", "/keys/a", "'/keys/b'"]),
        _ => dice.pick(&["1", "'x'", "[1, 2]", "{a: 1}", "\"{{ z }}\""]),
    }
}

fn yaml(dice: &mut Dice) -> String {
    let mut out = dice.pick(&["", "---\n", "# comment\n---\n", "%YAML 1.1\n---\n"]).to_owned();
    let top: Vec<&str> =
        if dice.one_in(2) { vec!["all"] } else { (0..=dice.below(3)).map(|_| dice.pick(&GROUPS)).collect() };
    let mut seen = Vec::new();
    for group in top {
        if !seen.contains(&group) {
            seen.push(group);
            yaml_group(dice, group, 0, &mut out);
        }
    }
    out
}

fn yaml_group(dice: &mut Dice, group: &str, depth: usize, out: &mut String) {
    let pad = "    ".repeat(depth * 2);
    let key = if dice.one_in(6) { format!("\"{group}\"") } else { group.to_owned() };
    out.push_str(&format!("{pad}{key}:{}\n", if dice.one_in(5) { "   # why" } else { "" }));
    if dice.one_in(10) {
        return;
    }
    if dice.one_in(40) {
        let bad = dice.pick(&[
            "hosts: [web1]",
            "hosts: web1",
            "host: {web1: }",
            "children: [x]",
            "children: zz",
            "hosts: 1",
            "hosts: {1: }",
        ]);
        out.push_str(&format!("{pad}    {}\n", bad.replace('\n', &format!("\n{pad}"))));
        return;
    }
    if !dice.one_in(4) {
        out.push_str(&format!("{pad}    hosts:{}\n", if dice.one_in(8) { " # these" } else { "" }));
        let mut seen = Vec::new();
        for _ in 0..dice.below(4) {
            let name = host(dice);
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let quoted = name.contains(['[', ':']) || dice.one_in(6) || name.starts_with('-');
            out.push_str(&if quoted { format!("{pad}        '{name}':") } else { format!("{pad}        {name}:") });
            match dice.below(4) {
                0 => out.push_str(" {}\n"),
                1 => yaml_vars(dice, &format!("{pad}            "), out),
                _ => out.push_str(dice.pick(&["\n", " ~\n", "  # plain\n"])),
            }
        }
    }
    if dice.one_in(2) {
        out.push_str(&format!("{pad}    vars:"));
        yaml_vars(dice, &format!("{pad}        "), out);
    }
    if depth < 3 && dice.one_in(2) {
        out.push_str(&format!("{pad}    children:\n"));
        let mut seen = Vec::new();
        for _ in 0..=dice.below(2) {
            let child = dice.pick(&GROUPS);
            if !seen.contains(&child) && (child > group || group == "all" || dice.one_in(20)) {
                seen.push(child);
                yaml_group(dice, child, depth + 1, out);
            }
        }
    }
}

fn yaml_vars(dice: &mut Dice, pad: &str, out: &mut String) {
    out.push('\n');
    let mut seen = Vec::new();
    for _ in 0..=dice.below(3) {
        let variable = if dice.one_in(8) { "ansible_group_priority" } else { dice.pick(&VARIABLES) };
        if seen.contains(&variable) {
            continue;
        }
        seen.push(variable);
        let value =
            if variable == "ansible_group_priority" { dice.pick(&["1", "5", "'7'"]) } else { scalar(dice, variable) };
        out.push_str(&format!("{pad}{variable}: {value}\n"));
    }
}

fn json_vars(dice: &mut Dice) -> serde_json::Value {
    let mut vars = serde_json::Map::new();
    for _ in 0..dice.below(3) {
        let variable = dice.pick(&VARIABLES);
        let value = match variable {
            "ansible_port" | "ansible_ssh_port" => dice.pick(&["22", "\"2222\"", "null", "2200"]),
            "ansible_connection" => dice.pick(&["\"ssh\"", "\"local\""]),
            "ansible_host" | "ansible_ssh_host" => dice.pick(&["\"10.1.1.1\"", "\"h1\"", "null"]),
            _ => dice.pick(&["\"root\"", "\"ops\"", "12", "true", "1.5", "null", "[\"x\"]", "\"yes\"", "\"010\""]),
        };
        vars.insert(variable.to_owned(), serde_json::from_str(value).expect("JSON"));
    }
    vars.into()
}

fn nested_json(dice: &mut Dice) -> String {
    fn group(dice: &mut Dice, depth: usize) -> serde_json::Value {
        let hosts: serde_json::Map<_, _> =
            (0..dice.below(4)).map(|_| (dice.pick(&HOSTS).to_owned(), json_vars(dice))).collect();
        let mut out = serde_json::json!({"hosts": hosts, "vars": json_vars(dice)});
        if depth < 2 {
            let children: serde_json::Map<_, _> = (0..dice.below(3))
                .map(|_| (format!("{}_{depth}", dice.pick(&GROUPS)), group(dice, depth + 1)))
                .collect();
            out["children"] = children.into();
        }
        out
    }
    serde_json::json!({ "all": group(dice, 0) }).to_string()
}

fn script_json(dice: &mut Dice) -> String {
    let names: Vec<&str> = (0..=dice.below(4)).map(|_| dice.pick(&GROUPS)).collect();
    let plain = |dice: &mut Dice| dice.pick(&["web1", "web2", "db1", "10.0.0.1", "n01", "2001:db8::1", "n[1:2]x"]);
    let mut out = serde_json::Map::new();
    let mut hostvars = serde_json::Map::new();
    for (nth, name) in names.iter().enumerate() {
        let hosts: Vec<&str> = (0..dice.below(4)).map(|_| plain(dice)).filter(|host| !host.contains('[')).collect();
        hosts.iter().for_each(|host| drop(hostvars.insert((*host).to_owned(), json_vars(dice))));
        let children: Vec<&str> =
            names[nth..].iter().filter(|child| *child != name).copied().take(dice.below(2)).collect();
        let group = match dice.below(3) {
            0 => serde_json::json!(hosts),
            _ => serde_json::json!({"hosts": hosts, "children": children, "vars": json_vars(dice)}),
        };
        out.insert((*name).to_owned(), group);
    }
    out.insert("_meta".to_owned(), serde_json::json!({ "hostvars": hostvars }));
    serde_json::Value::from(out).to_string()
}
