//! TLS with a collector.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::NamedTempFile;
use tonic::transport::Identity;

use super::samples::*;
use super::*;

/// An authority, and what it gave a collector named `localhost`.
struct Certificates {
    authority: NamedTempFile,
    collector: Identity,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let collector = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let collector = collector.signed_by(&key, &issuer).unwrap();
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority.pem()).unwrap();
        Self {
            authority: file,
            collector: Identity::from_pem(collector.pem(), key.serialize_pem()),
        }
    }
}

#[tokio::test]
async fn a_collector_is_trusted_by_its_authority_alone() {
    let certificates = Certificates::new();
    let receiver = Receiver::secure(certificates.collector.clone()).await;
    let mut node = Node::new(&receiver, &[LogKind::Dns]);
    node.config.otlp.ca = Some(certificates.authority.path().to_owned());
    let mut node = node.start();
    node.feed([dns(timeout("a.example"))]);
    receiver.expect(1).await;
    node.stop().await;

    let others = Certificates::new();
    let mut node = Node::new(&receiver, &[LogKind::Dns]);
    node.config.otlp.ca = Some(others.authority.path().to_owned());
    let mut node = node.start();
    node.feed([dns(timeout("b.example"))]);
    let error = eventually("a failure", || node.status().logs.error).await;
    assert!(error.contains("certificate"), "{error}");
    node.stop().await;
    assert_eq!(receiver.records().len(), 1);
}

#[tokio::test]
async fn authorities_that_cannot_be_used_are_told_before_anything_runs() {
    let receiver = Receiver::away(Protocol::Grpc).await;
    let empty = NamedTempFile::new().unwrap();
    for (path, why) in [
        (std::path::Path::new("/nonexistent.pem"), "/nonexistent.pem"),
        (empty.path(), "no certificate in PEM form"),
    ] {
        let mut node = Node::new(&receiver, &[]);
        node.config.otlp.endpoint = Some("https://localhost:1".parse().unwrap());
        node.config.otlp.ca = Some(path.to_owned());
        let error = node.build().unwrap_err();
        assert_eq!(error.exit_code(), crate::error::EXIT_USAGE);
        let text = error.to_string();
        assert!(text.contains(why) && text.contains("--otlp-ca"), "{text}");
    }
}
