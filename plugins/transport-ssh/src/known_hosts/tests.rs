use super::*;
use crate::ssh_config::{Config, User};

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";

fn key(text: &str) -> PublicKey {
    text.parse().unwrap()
}

/// What a file with this text knows of a host.
fn known(text: &str, host: &str, port: u16) -> (tempfile::TempDir, KnownHost) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_hosts");
    fs::write(&file, text).unwrap();
    let user = User { name: "me".into(), uid: 0, home: "/nowhere".into(), agent: None, machine: "here".into() };
    let host = Host { port: Some(port), ..Host::named(host) };
    let mut settings = Settings::of(&host, &Config::default(), &user).unwrap();
    settings.known_hosts = vec![file];
    settings.global_known_hosts.clear();
    (dir, KnownHost::read(&settings, &Arc::default()).unwrap())
}

fn message(text: &str, host: &str, port: u16, shown: &str) -> String {
    let (_dir, known) = known(text, host, port);
    let error = known.check(&key(shown)).unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::HostKey);
    assert!(error.hint.is_some());
    error.to_string()
}

fn passes(text: &str, host: &str, port: u16, shown: &str) -> bool {
    let (_dir, known) = known(text, host, port);
    known.check(&key(shown)).is_ok()
}

#[test]
fn the_key_that_is_known_passes() {
    assert!(passes(&format!("# mine\n\nother {B}\nweb,10.0.0.1\t{A} comment\n"), "web", 22, A));
    assert!(passes(&format!("*.example.org,!bad.example.org {A}"), "x.example.org", 22, A));
    assert!(!passes(&format!("*.example.org,!bad.example.org {A}"), "bad.example.org", 22, A));
    assert!(passes(&format!("web {A}"), "WEB", 22, A));
}

#[test]
fn an_unknown_key_is_told_from_a_changed_one() {
    assert!(message("", "web", 22, A).starts_with("the host key of web:22 is unknown: ED25519 SHA256:"));
    let changed = message(&format!("\nweb {A}\n"), "web", 22, B);
    assert!(changed.starts_with("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{changed}");
    assert!(changed.contains("/known_hosts:2 has SHA256:"), "{changed}");
    assert!(message(&format!("web {ECDSA}\n"), "web", 22, B).contains("has only ECDSA"));
}

#[test]
fn a_second_key_of_the_same_type_may_be_known() {
    assert!(passes(&format!("web {A}\nweb {B}\n"), "web", 22, B));
}

#[test]
fn a_revoked_key_is_refused_wherever_else_it_is_known() {
    assert!(message(&format!("web {A}\n@revoked * {A}\n"), "web", 22, A).contains("REVOKED"));
}

#[test]
fn a_port_belongs_to_the_name() {
    assert!(passes(&format!("[web]:2222 {A}"), "web", 2222, A));
    assert!(message(&format!("[web]:2222 {A}"), "web", 22, A).contains("unknown"));
    assert!(message(&format!("[web]:2222 {A}"), "web", 2222, B).contains("CHANGED"));
    // The same key under the usual port passes, a different one there says nothing.
    assert!(passes(&format!("web {A}"), "web", 2222, A));
    assert!(message(&format!("web {A}"), "web", 2222, B).contains("unknown"));
}

#[test]
fn hashed_names_are_found() {
    let line = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {B}");
    assert!(passes(&line, "example.com", 22, B));
    assert!(message(&line, "example.com", 22, A).contains("CHANGED"));
    assert!(message(&line, "example.org", 22, A).contains("unknown"));
}

#[test]
fn types_that_are_known_come_first() {
    let (_dir, known) = known(&format!("web {ECDSA}\n@revoked web {A}\n"), "web", 22);
    assert_eq!(known.algorithms(), [key(ECDSA).algorithm()]);
}

#[test]
fn an_authority_is_named_as_unsupported() {
    let (_dir, known) = known(&format!("@cert-authority * {A}\n"), "web", 22);
    assert!(known.check(&key(A)).unwrap_err().hint.unwrap().contains("@cert-authority"));
}

#[test]
fn a_new_key_is_written_once_and_then_known() {
    let (dir, known) = known(&format!("other {B}"), "web", 2222);
    let known = KnownHost { policy: HostKeys::AcceptNew, ..known };
    known.check(&key(A)).unwrap();
    known.check(&key(A)).unwrap();
    let text = fs::read_to_string(dir.path().join("known_hosts")).unwrap();
    assert_eq!(text, format!("other {B}\n[web]:2222 {A}\n"));
    assert!(passes(&text, "web", 2222, A));
}

#[test]
fn accept_new_does_not_accept_a_changed_key() {
    let (_dir, known) = known(&format!("web {A}"), "web", 22);
    let known = KnownHost { policy: HostKeys::AcceptNew, ..known };
    assert!(known.check(&key(B)).unwrap_err().message.contains("CHANGED"));
    let known = KnownHost { policy: HostKeys::Insecure, ..known };
    known.check(&key(B)).unwrap();
}

#[test]
fn a_new_name_is_hashed_where_the_configuration_says_so() {
    let (dir, known) = known("", "web", 2222);
    let known = KnownHost { policy: HostKeys::AcceptNew, hash_names: true, ..known };
    known.check(&key(A)).unwrap();
    known.check(&key(A)).unwrap();
    let text = fs::read_to_string(dir.path().join("known_hosts")).unwrap();
    assert!(text.starts_with("|1|") && text.lines().count() == 1, "{text}");
    assert!(passes(&text, "web", 2222, A) && !passes(&text, "db", 2222, A));
}

/// What a file knows of a host, or why it cannot be read.
fn read(file: &str, name: &str) -> Result<KnownHost, TransportError> {
    let user = User { name: "me".into(), uid: 0, home: "/nowhere".into(), agent: None, machine: "here".into() };
    let mut settings = Settings::of(&Host::named(name), &Config::default(), &user).unwrap();
    settings.known_hosts = vec![file.into()];
    settings.global_known_hosts.clear();
    KnownHost::read(&settings, &Arc::default())
}

#[test]
fn a_file_without_an_end_is_refused_and_one_without_a_beginning_is_empty() {
    for device in ["/dev/zero", "/dev/full"] {
        let error = read(device, "web").unwrap_err();
        assert!(error.to_string().contains(&format!("{device}: it is longer than 16 MiB")), "{error}");
    }
    for nothing in ["/dev/null", "/nowhere/at/all", "/"] {
        assert!(read(nothing, "web").unwrap().keys.is_empty());
    }
}

#[test]
fn a_large_file_is_looked_up_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_hosts");
    let mut text: String = (0..200_000).map(|n| format!("host{n},10.0.0.{n} {A}\n")).collect();
    text.push_str(&"x".repeat(1 << 20));
    text.push_str(&format!("\nweb {B}\n"));
    fs::write(&file, text).unwrap();
    let found = read(&file.display().to_string(), "web").unwrap();
    assert_eq!(found.keys.iter().map(|known| known.line).collect::<Vec<_>>(), [200_002]);
    assert_eq!(read(&file.display().to_string(), "HOST150000").unwrap().keys[0].line, 150_001);
}

#[test]
fn revoked_host_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("revoked");
    fs::write(&file, format!("# stolen\n{A}\n")).unwrap();
    let (_dir, mut found) = known(&format!("web {A}\n"), "web", 22);
    found.check(&key(A)).unwrap();
    found.revoke(&file).unwrap();
    assert!(found.check(&key(A)).unwrap_err().message.contains("REVOKED"));
    fs::write(&file, KRL).unwrap();
    assert!(found.revoke(&file).unwrap_err().hint.unwrap().contains("transport: openssh"));
}
