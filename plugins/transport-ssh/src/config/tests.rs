use std::path::Path;

use super::*;
use crate::ssh_config::Files;

fn user() -> User {
    let agent = Some("/run/agent".into());
    User { name: "me".into(), uid: 1000, home: "/nowhere/me".into(), agent, machine: "here.example".into() }
}

/// The configuration that a file with this text is.
fn parse(text: &str) -> Result<Arc<Config>, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    std::fs::write(&file, text).unwrap();
    Files::default().load(Some(&file.display().to_string()), &user())
}

fn settings_of(text: &str, host: &Host) -> Settings {
    Settings::of(host, &parse(text).unwrap(), &user()).unwrap()
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
    let error = Settings::of(&host, &Config::default(), &user()).unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::Config);
}

#[test]
fn included_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("more"), "Host web\n Port 2300\n").unwrap();
    assert_eq!(settings(&format!("Include {}/m*\n", dir.path().display())).port, 2300);
}

#[test]
fn keywords_that_mean_nothing_here_are_passed_over() {
    let s = settings("IgnoreUnknown Made*\nHost web\n MadeUp 7\n ControlMaster auto\n AddKeysToAgent 1h\n Port 9\n");
    assert_eq!(s.port, 9);
}

#[test]
fn a_bad_line_is_named_with_file_line_and_keyword() {
    for (line, keyword) in [
        ("Port many", "Port: \"many\""),
        ("ConnectTimeout soon", "ConnectTimeout: \"soon\""),
        ("MadeUp 7", "MadeUp: OpenSSH knows no such keyword"),
        ("Ciphers nonsense", "Ciphers: \"nonsense\""),
        ("IdentityFile \"x", "IdentityFile: a quote is not closed"),
        ("Match nothing x", "Match: \"nothing\""),
    ] {
        let text = format!("\n\nHost elsewhere\n  {line}\n");
        let refused = parse(&text).map(|config| Settings::of(&Host::named("web"), &config, &user()));
        let error = match refused {
            Err(e) => TransportError::from(e),
            Ok(settings) => settings.unwrap_err(),
        };
        assert_eq!(error.kind, TransportErrorKind::Config);
        assert!(error.message.contains(&format!("/config:4: {keyword}")), "{error}");
        assert!(error.hint.is_some());
    }
}

#[test]
fn what_only_openssh_can_do_names_its_transport() {
    for text in ["ProxyCommand x\nProxyUseFdpass yes\n", "Ciphers 3des-cbc\n", "Match command exec*\nPort 1\n"] {
        let error = Settings::of(&Host::named("web"), &parse(text).unwrap(), &user()).unwrap_err();
        assert!(error.hint.unwrap().contains("transport: openssh"), "{}", error.message);
        assert!(error.message.contains("/config:"), "{}", error.message);
    }
}

#[test]
fn options_of_the_host_come_before_the_file() {
    let mut host = Host::named("web");
    host.options.insert("ssh_options".into(), "Port=7\nIdentityFile /first\nPort 8".into());
    let s = settings_of("Host web\n Port 9\n IdentityFile /second\n", &host);
    assert_eq!((s.port, s.identity_files), (7, vec!["/first".into(), PathBuf::from("/second")]));
    for (option, why) in [("Prot=7", "Prot: OpenSSH knows no such keyword"), ("Port=x", "Port:"), ("Host a", "Host:")] {
        host.options.insert("ssh_options".into(), option.into());
        let error = Settings::of(&host, &Config::default(), &user()).unwrap_err();
        assert!(error.message.starts_with(&format!("SSH options: {why}")), "{error}");
    }
}

#[test]
fn a_proxy_command_has_its_tokens() {
    let s = settings("HostName real\nProxyCommand nc -x %r@p %h %p # %n\n");
    assert_eq!(s.proxy_command.as_deref(), Some("nc -x me@p real 22 # web"));
    assert_eq!(settings("ProxyJump none\nProxyCommand false\n").proxy_command, None);
    assert_eq!(settings("ProxyCommand none\n").proxy_command, None);
}

#[test]
fn algorithms_are_those_of_the_configuration() {
    let names = |text: &str| {
        let preferred = settings(text).algorithms.preferred(&[]);
        let ciphers: Vec<_> = preferred.cipher.iter().map(|n| n.as_ref().to_owned()).collect();
        (ciphers, preferred.key.iter().map(|a| a.as_str().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(names("Ciphers aes256-ctr,aes128-cbc\n").0, ["aes256-ctr", "aes128-cbc"]);
    assert_eq!(names("Ciphers -*-ctr,*gcm*\n").0, ["chacha20-poly1305@openssh.com"]);
    assert_eq!(names("Ciphers ^aes256-ctr\n").0[..2], ["aes256-ctr", "aes128-gcm@openssh.com"]);
    assert_eq!(names("HostKeyAlgorithms ssh-ed25519,rsa-sha2-256\n").1, ["ssh-ed25519", "rsa-sha2-256"]);
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
    let text = "Host web\n Port 1\nMatch exec \"false\"\n User no\nMatch host db,web\n User yes\nMatch all\n \
                ConnectTimeout 4\n";
    let s = settings(text);
    assert_eq!((s.port, s.user.as_str(), s.connect_timeout), (1, "yes", Duration::from_secs(4)));
}

fn places(text: &str, host: &Host) -> Vec<String> {
    let config = parse(text).unwrap();
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
fn tokens_of_a_jump_host_are_those_of_the_host() {
    let text = "Host web\n User ann\n HostName real\n ProxyJump %r@gate-%n,x-%r@gate-%h:9\n";
    assert_eq!(places(text, &Host::named("web")), ["ann@gate-web:22", "x-ann@gate-real:9", "ann@real:22"]);
}

#[test]
fn none_means_directly() {
    let host = Host { jump: Some("none".into()), ..Host::named("web") };
    assert_eq!(places("ProxyJump a\n", &host), ["me@web:22"]);
    let host = Host { jump: Some("x@c:1".into()), ..Host::named("web") };
    assert_eq!(places("Host web\n ProxyJump none\n", &host), ["x@c:1", "me@web:22"]);
}
