//! Remedies for those who are not what was hoped for.

use super::Surroundings;
use crate::error::Exit;

/// Listens, and answers whatever comes with a text.
async fn says(answer: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    address
}

const HTTP: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn who_speaks_something_else_is_no_agent() {
    let address = says(HTTP).await;
    let outcome = Surroundings::piped().run(&format!("--agent {address} flows")).await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    let remedy = "if it speaks TLS, use https:// and --tls-ca; else it is no orb8 agent";
    assert!(outcome.err.contains(remedy), "{}", outcome.err);
    assert!(!outcome.err.contains("--tls-cert"), "{}", outcome.err);
}

#[tokio::test]
async fn who_does_not_speak_tls_is_not_asked_for_it() {
    let address = says(HTTP).await;
    let authority = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, authority.cert.pem()).unwrap();
    let line = format!("--agent https://{address} --tls-ca {} flows", path.display());
    let outcome = Surroundings::piped().run(&line).await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.contains("it does not speak TLS"), "{}", outcome.err);
}
