use std::path::Path;

use super::*;
use crate::ssh_config::parse;

fn user() -> User {
    User { name: "me".into(), home: "/nowhere/me".into(), agent: Some("/run/agent".into()) }
}

fn settings_of(text: &str, host: &Host) -> Settings {
    Settings::of(host, &parse(text, Path::new("/nowhere/me")).unwrap(), &user()).unwrap()
}

fn settings(text: &str) -> Settings {
    settings_of(text, &Host::named("web"))
}

#[test]
fn without_configuration_the_defaults_are_those_of_openssh() {
    let s = settings("");
    assert_eq!((s.address.as_str(), s.port, s.user.as_str()), ("web", 22, "me"));
    assert_eq!(s.agent.as_deref(), Some(Path::new("/run/agent")));
    assert_eq!(s.known_hosts[0], Path::new("/nowhere/me/.ssh/known_hosts"));
    assert_eq!(s.global_known_hosts[0], Path::new("/etc/ssh/ssh_known_hosts"));
    assert_eq!(s.host_keys, HostKeys::Strict);
    assert_eq!(s.connect_timeout, Duration::from_secs(15));
    assert!(s.identity_files.is_empty() && !s.identities_only);
}

#[test]
fn host_hostname_user_and_port_are_honoured() {
    let s = settings("Host w*\n HostName %h.example.org\n User deploy\n Port 2200\nHost other\n User no\n");
    assert_eq!((s.address.as_str(), s.port, s.user.as_str()), ("web.example.org", 2200, "deploy"));
}

#[test]
fn the_hosts_own_fields_win() {
    let host: Host = "root@web:2222".parse().unwrap();
    let host = Host { identity_file: Some("/k".into()), ..host };
    let s = settings_of("Host web\n HostName 10.0.0.1\n User deploy\n Port 2200\n IdentityFile /other\n", &host);
    assert_eq!((s.address.as_str(), s.port, s.user.as_str()), ("10.0.0.1", 2222, "root"));
    assert_eq!(s.identity_files, [Path::new("/k"), Path::new("/other")]);
}

#[test]
fn identity_files_expand_their_tokens() {
    let s = settings(
        "Host web\n IdentityFile ~/.ssh/a\n IdentityFile %d/.ssh/%h-%r-%u-%p-%%\n IdentityFile \"/with space/k\"\n",
    );
    let expected = ["/nowhere/me/.ssh/a", "/nowhere/me/.ssh/web-me-me-22-%", "/with space/k"];
    assert_eq!(s.identity_files, expected.map(PathBuf::from));
}

#[test]
fn identities_only_and_identity_agent_are_honoured() {
    let s = settings("IdentitiesOnly yes\nIdentityAgent ~/agent-%u\n");
    assert!(s.identities_only);
    assert_eq!(s.agent.as_deref(), Some(Path::new("/nowhere/me/agent-me")));
    assert_eq!(settings("IdentityAgent none\n").agent, None);
}

#[test]
fn known_hosts_files_and_alias_are_honoured() {
    let s = settings("UserKnownHostsFile ~/a \"/b\"\nGlobalKnownHostsFile none\nHostKeyAlias real\n");
    assert_eq!(s.known_hosts, ["/nowhere/me/a", "/b"].map(PathBuf::from));
    assert!(s.global_known_hosts.is_empty());
    assert_eq!(s.host_key_alias.as_deref(), Some("real"));
}

#[test]
fn strictness_comes_from_the_configuration_unless_the_option_is_set() {
    for (value, expected) in [
        ("yes", HostKeys::Strict),
        ("ask", HostKeys::Strict),
        ("accept-new", HostKeys::AcceptNew),
        ("no", HostKeys::AcceptNew),
        ("off", HostKeys::AcceptNew),
    ] {
        assert_eq!(settings(&format!("StrictHostKeyChecking {value}\n")).host_keys, expected, "{value}");
    }
    let mut host = Host::named("web");
    host.options.insert("host_keys".into(), "insecure".into());
    assert_eq!(settings_of("StrictHostKeyChecking yes\n", &host).host_keys, HostKeys::Insecure);
}

#[test]
fn time_outs_come_from_the_option_then_the_configuration() {
    assert_eq!(settings("ConnectTimeout 3\n").connect_timeout, Duration::from_secs(3));
    let mut host = Host::named("web");
    host.options.insert("connect_timeout".into(), "0.5".into());
    assert_eq!(settings_of("ConnectTimeout 3\n", &host).connect_timeout, Duration::from_millis(500));
    host.options.insert("connect_timeout".into(), "soon".into());
    let error = Settings::of(&host, &SshConfig::default(), &user()).unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::Config);
}

#[test]
fn included_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("more"), "Host web\n Port 2300\n").unwrap();
    assert_eq!(settings(&format!("Include {}/m*\n", dir.path().display())).port, 2300);
}

#[test]
fn unknown_directives_are_tolerated() {
    let s = settings(
        "Host web\n MadeUpDirective 7\n ControlMaster auto\n RekeyLimit 1G\n CanonicalizeHostname no\n Port 9\n",
    );
    assert_eq!(s.port, 9);
}

#[test]
fn the_first_value_counts_within_a_block_and_between_blocks() {
    let s = settings(
        "Host web\n Port 1\n Port 2\n StrictHostKeyChecking yes\n stricthostkeychecking=no\nHost *\n Port 3\n User u\n",
    );
    assert_eq!((s.port, s.user.as_str(), s.host_keys), (1, "u", HostKeys::Strict));
}

#[test]
fn a_match_block_applies_only_to_what_it_names() {
    let text = "Host web\n Port 1\nMatch exec \"true\"\n User no\nMatch host db,web\n User yes\nMatch all\n ConnectTimeout 4\n";
    let s = settings(text);
    assert_eq!((s.port, s.user.as_str(), s.connect_timeout), (1, "yes", Duration::from_secs(4)));
}

fn places(text: &str, host: &Host) -> Vec<String> {
    let config = parse(text, Path::new("/nowhere/me")).unwrap();
    let chain = Settings::chain(host, &config, &user()).unwrap();
    chain.iter().map(|s| format!("{}@{}", s.user, s.place())).collect()
}

#[test]
fn every_hop_has_its_own_settings() {
    let text = "Host web\n ProxyJump a,root@b:99\nHost a\n HostName a.example\n User ann\n Port 5\n";
    assert_eq!(places(text, &Host::named("web")), ["ann@a.example:5", "root@b:99", "me@web:22"]);
}

#[test]
fn the_first_hop_may_jump_as_well_and_the_host_itself_is_no_hop() {
    let text = "Host a\n ProxyJump outer\nHost *\n ProxyJump a\n";
    assert_eq!(places(text, &Host::named("web")), ["me@outer:22", "me@a:22", "me@web:22"]);
}

#[test]
fn none_means_directly() {
    let host = Host { jump: Some("none".into()), ..Host::named("web") };
    assert_eq!(places("ProxyJump a\n", &host), ["me@web:22"]);
    let host = Host { jump: Some("x@c:1".into()), ..Host::named("web") };
    assert_eq!(places("Host web\n ProxyJump none\n", &host), ["x@c:1", "me@web:22"]);
}
