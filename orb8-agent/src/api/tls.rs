//! Certificates and keys from files.

use std::fs;
use std::path::Path;

use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::TlsFiles;
use crate::error::{AgentError, chain};

/// Returns a server that speaks TLS, or mTLS where clients' authorities are given.
pub(super) fn server(files: &TlsFiles) -> Result<Server, AgentError> {
    let TlsFiles { certificate, key, client_ca } = files;
    let identity = Identity::from_pem(read(certificate, "CERTIFICATE")?, read(key, "PRIVATE KEY")?);
    let mut config = ServerTlsConfig::new().identity(identity);
    if let Some(authorities) = client_ca {
        config = config.client_ca_root(Certificate::from_pem(read(authorities, "CERTIFICATE")?));
    }
    Server::builder()
        .tls_config(config)
        .map_err(|error| AgentError::Tls { path: certificate.clone(), problem: chain(&error) })
}

/// Reads a PEM file that must hold at least one block of the kind.
fn read(path: &Path, kind: &str) -> Result<Vec<u8>, AgentError> {
    let refuse = |problem: String| AgentError::Tls { path: path.to_owned(), problem };
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let has_block = text.lines().any(|line| {
        line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{kind}-----"))
    });
    if !has_block {
        return Err(refuse(format!("it has no {kind} in PEM form")));
    }
    Ok(text.into_bytes())
}
