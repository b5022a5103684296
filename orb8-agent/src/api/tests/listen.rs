use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio::net::UnixStream;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::*;

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut node = Node::new();
    for (setting, listen, admin) in
        [("--listen", Some(address), None), ("--admin-listen", None, Some(address))]
    {
        (node.config.api.listen, node.config.api.admin) = (listen, admin);
        let error = node.build().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, AgentError::AddressInUse { .. }), "{error:?}");
        assert!(text.contains(&address.to_string()) && text.contains(setting), "{text}");
    }
}

async fn connect_unix(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://unix").connect_with_connector(connector).await
}

#[tokio::test]
async fn the_unix_socket_is_private_and_replaces_a_dead_ones() {
    let mut node = Node::new();
    let path = node.directory.path().join("run/agent.sock");
    node.config.api.socket = Some(path.clone());
    // What an agent that was killed leaves behind.
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());

    assert_eq!(node.run().await.socket, Some(path.clone()));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path) & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else");
    let mut client = Client::new(connect_unix(path.clone()).await.unwrap());
    let status = client.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.node_name, "node-1");

    let error = node.build().await.unwrap_err();
    assert!(matches!(error, AgentError::SocketInUse { .. }), "{error:?}");
    drop(client);
    node.stop().await;
    assert!(!path.exists(), "it goes with the agent");
}

#[tokio::test]
async fn a_file_that_is_no_socket_stays() {
    let mut node = Node::new();
    let path = node.directory.path().join("agent.sock");
    std::fs::write(&path, "precious").unwrap();
    node.config.api.socket = Some(path.clone());
    let error = node.build().await.unwrap_err();
    assert!(crate::error::chain(&error).contains("no socket"), "{error:?}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");

    let path = node.directory.path().join("new/deep/agent.sock");
    node.config.api.socket = Some(path.clone());
    let api = node.build().await.unwrap();
    let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    drop(api);
}

/// An authority, and certificates of it.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn tls_asks_for_client_certificates_where_told() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut node = Node::new();
    let write = |name: &str, text: String| {
        let path = node.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let tls = TlsFiles {
        certificate: write("cert.pem", certificate),
        key: write("key.pem", key),
        client_ca: Some(write("ca.pem", authority.0.pem())),
    };
    node.config.api.tls = Some(tls);
    node.config.api.listen = Some("127.0.0.1:0".parse().unwrap());
    let port = node.run().await.listen.unwrap().port();

    let ask = async |identity: Option<(String, String)>, trust: &Authority| {
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(trust.0.pem()));
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.ok()?;
        Client::new(channel).get_status(v1::GetStatusRequest {}).await.ok()
    };
    let client = || Some(authority.issue(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(ask(client(), &authority).await.is_some(), "both know each other");
    assert!(ask(None, &authority).await.is_none(), "no client certificate");
    let other = Some(stranger.issue(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(ask(other, &authority).await.is_none(), "a stranger's certificate");
    assert!(ask(client(), &stranger).await.is_none(), "the client trusts somebody else");
    node.stop().await;
}

#[tokio::test]
async fn tls_files_that_do_not_serve_are_named() {
    let mut node = Node::new();
    node.config.api.listen = Some("127.0.0.1:0".parse().unwrap());
    let (certificate, key) = Authority::new().issue(ExtendedKeyUsagePurpose::ServerAuth);
    let path = |name: &str| node.directory.path().join(name);
    std::fs::write(path("cert.pem"), &certificate).unwrap();
    std::fs::write(path("key.pem"), key).unwrap();
    std::fs::write(path("text.pem"), "hello").unwrap();
    for (cert, key, culprit) in [
        ("missing.pem", "key.pem", "missing.pem"),
        ("cert.pem", "text.pem", "text.pem"),
        ("cert.pem", "cert.pem", "cert.pem"),
    ] {
        let tls = TlsFiles { certificate: path(cert), key: path(key), client_ca: None };
        let mut config = node.config.clone();
        config.api.tls = Some(tls);
        let built = Api::build(&config, Arc::clone(&node.pipeline), node.board.clone()).await;
        let error = built.unwrap_err();
        assert!(matches!(error, AgentError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(culprit), "{error}");
    }
}
