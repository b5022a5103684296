//! Agents behind TLS, and those that want to know their clients.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::agent::{FakeAgent, Script};
use super::{Surroundings, samples};
use crate::error::Exit;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Returns a certificate and its key.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn write(dir: &TempDir, name: &str, content: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn an_agent_and_its_client_prove_who_they_are() {
    let (authority, stranger) = (authority(), authority());
    let (certificate, key) = issue(&authority, "agent.test");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let script = Script { flows: samples::flows(), ..Script::default() };
    let agent = FakeAgent::start_tls(script, tls).await;

    let dir = tempfile::tempdir().unwrap();
    let ca = write(&dir, "ca.pem", &authority.pem());
    let wrong_ca = write(&dir, "wrong.pem", &stranger.pem());
    let (certificate, key) = issue(&authority, "client.test");
    let certificate = write(&dir, "client.pem", &certificate);
    let key = write(&dir, "client.key", &key);

    let run = |flags: String| async move {
        Surroundings::piped().run(&format!("--agent {agent} {flags} flows")).await
    };
    let client = format!("--tls-cert {certificate} --tls-key {key}");
    let name = "--tls-server-name agent.test";

    let known = run(format!("--tls-ca {ca} {client} {name}")).await;
    assert_eq!(known.exit, Exit::Success, "{}", known.err);
    assert!(known.out.contains("llama-trainer-0"));

    for (flags, remedy) in [
        (format!("--tls-ca {ca} {name}"), "give --tls-cert and --tls-key"),
        (format!("--tls-ca {ca} {client}"), "--tls-server-name where"),
        (format!("--tls-ca {wrong_ca} {client} {name}"), "certificate with --tls-ca"),
        (String::new(), "use https:// and --tls-ca"),
    ] {
        let outcome = run(flags).await;
        assert_eq!(outcome.exit, Exit::Unavailable, "{}", outcome.err);
        assert!(outcome.err.contains(remedy), "{remedy}: {}", outcome.err);
    }
}
