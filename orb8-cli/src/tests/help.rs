//! Help pages, as a terminal of 100 columns shows them. Some have the engine's flags.

use insta::assert_snapshot;

use super::Surroundings;
use crate::error::Exit;

fn found(path: &[&str]) -> clap::Command {
    let mut command = crate::command().term_width(100);
    command.build();
    let found =
        path.iter().fold(&mut command, |found, name| found.find_subcommand_mut(name).unwrap());
    found.clone().term_width(100)
}

fn help(path: &[&str]) -> String {
    found(path).render_long_help().to_string()
}

fn short_help(path: &[&str]) -> String {
    found(path).render_help().to_string()
}

#[test]
fn orb8_short() {
    assert_snapshot!(short_help(&[]));
}

#[test]
fn flows_short() {
    assert_snapshot!(short_help(&["flows"]));
}

#[test]
fn trace_network_short() {
    assert_snapshot!(short_help(&["trace", "network"]));
}

#[test]
fn trace_dns_short() {
    assert_snapshot!(short_help(&["trace", "dns"]));
}

#[test]
fn trace_tcp_short() {
    assert_snapshot!(short_help(&["trace", "tcp"]));
}

#[test]
fn dns_top_short() {
    assert_snapshot!(short_help(&["dns", "top"]));
}

#[test]
fn tcp_top_short() {
    assert_snapshot!(short_help(&["tcp", "top"]));
}

#[test]
fn top_short() {
    assert_snapshot!(short_help(&["top"]));
}

#[test]
fn workloads_short() {
    assert_snapshot!(short_help(&["workloads"]));
}

#[test]
fn gpu_short() {
    assert_snapshot!(short_help(&["gpu"]));
}

#[test]
fn gpu_health_short() {
    assert_snapshot!(short_help(&["gpu", "health"]));
}

#[test]
fn trace_gpu_short() {
    assert_snapshot!(short_help(&["trace", "gpu"]));
}

#[test]
fn pods_short() {
    assert_snapshot!(short_help(&["pods"]));
}

#[cfg(all(feature = "standalone", target_os = "linux"))]
#[test]
fn record_short() {
    assert_snapshot!(short_help(&["record"]));
}

#[test]
fn dns() {
    assert_snapshot!(help(&["dns"]));
}

#[test]
fn tcp() {
    assert_snapshot!(help(&["tcp"]));
}

#[test]
fn orb8() {
    assert_snapshot!(help(&[]));
}

#[test]
fn status() {
    assert_snapshot!(help(&["status"]));
}

#[cfg(all(feature = "standalone", target_os = "linux"))]
#[test]
fn flows() {
    assert_snapshot!(help(&["flows"]));
}

#[test]
fn trace() {
    assert_snapshot!(help(&["trace"]));
}

#[cfg(all(feature = "standalone", target_os = "linux"))]
#[test]
fn trace_network() {
    assert_snapshot!(help(&["trace", "network"]));
}

#[test]
fn diagnose() {
    assert_snapshot!(help(&["diagnose"]));
}

#[test]
fn completions() {
    assert_snapshot!(help(&["completions"]));
}

#[test]
fn version() {
    assert_snapshot!(help(&["version"]));
}

#[tokio::test]
async fn help_and_version_are_results() {
    let help = Surroundings::piped().run("--help").await;
    assert_eq!(help.exit, Exit::Success);
    assert!(help.out.contains("Usage: orb8") && help.err.is_empty());
    let version = Surroundings::piped().run("--version").await;
    assert_eq!(version.out, format!("orb8 {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = Surroundings::piped().run(&format!("completions {shell}")).await;
        assert_eq!(outcome.exit, Exit::Success);
        assert!(outcome.out.contains("orb8"), "{shell}");
    }
}

#[tokio::test]
async fn usage_mistakes_exit_64_and_list_the_choices() {
    for (line, expected) in [
        ("flows -o jsn", "[possible values: table, wide, json, yaml]"),
        ("flows --sort size", "[possible values: bytes, packets, rate, last-seen, first-seen]"),
        ("trace network --event begin", "[possible values: new, update, closing, end, lost]"),
        ("trace network --protocol tpc", "[possible values: tcp, udp, icmp, icmpv6, sctp, other]"),
        ("trace network --duration 5", "the unit is missing"),
        ("trace network --pod a --not", "there is none after it"),
        ("flows --from-ip 10.0.0.0/33", "is neither an address nor a prefix"),
        ("trace dns --rcode NXDOMAIM", "is not a response code like NXDOMAIN"),
        ("trace dns --name=", "a name must not be empty"),
        ("trace dns --slow junk", "give a duration such as 500ms"),
        ("trace dns -A -n ml", "cannot be used with"),
        ("trace dns --include-self", "unexpected argument '--include-self'"),
        ("trace tcp --events open", "[possible values: connect, accept, fail, close, retransmit,"),
        ("trace tcp --not --slow 1", "the unit is missing"),
        ("dns top --sort size", "[possible values: queries, errors, timeouts, latency, last-seen]"),
        ("tcp top --sort size", "[possible values: retransmits, rtt, handshake, bytes, opened]"),
        ("dns top --interval 2s", "--watch"),
        ("dns top --to-ip 10.0.0.1", "summaries have no such thing; it filters streams only"),
        ("top", "standard output is none"),
        ("top -o json", "it has no output format"),
        ("dashboard --interval 10ms", "100ms at least"),
        ("top --tab x", "[possible values: overview, flows, workloads, dns, tcp, gpu, agent]"),
        ("workloads --sort size", "[possible values: bytes, rate, packets, flows, peers,"),
        ("pods --port 80", "pods have no such thing; it filters their traffic"),
        ("dns", "Usage: orb8 dns"),
        ("--agent ftp://a status", "give HOST:PORT"),
        ("--agent a --standalone flows", "cannot be used with"),
        ("status --standalone", "`orb8 diagnose --standalone`"),
        ("frobnicate", "unrecognized subcommand"),
        ("--agent http://a:1 --tls-ca /none status", "need an https:// agent"),
        ("--agent https://a:1 status", "needs --tls-ca"),
        ("--agent https://a:1 --tls-ca /none status", "cannot read /none"),
    ] {
        let outcome = Surroundings::piped().run(line).await;
        assert_eq!(outcome.exit, Exit::Usage, "{line}: {}", outcome.err);
        assert!(outcome.err.contains(expected), "{line}: {}", outcome.err);
        assert!(outcome.out.is_empty(), "{line}");
    }
}
