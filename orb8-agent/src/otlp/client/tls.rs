//! Whom the collector's certificate must come from.

use std::path::Path;
use std::sync::Arc;

use http::Uri;
use hyper_rustls::ConfigBuilderExt;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{AgentError, chain};

/// Returns what TLS needs; of an endpoint in clear text, what nobody uses.
pub(super) fn config(endpoint: &Uri, ca: Option<&Path>) -> Result<ClientConfig, AgentError> {
    let refuse = |problem| AgentError::OtlpTls { problem };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(chain(&error)))?;
    let builder = match ca {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None if endpoint.scheme_str() == Some("https") => {
            builder.with_native_roots().map_err(|error| {
                refuse(format!("this machine has no authorities of its own: {}", chain(&error)))
            })?
        }
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

/// Reads a PEM file that must hold at least one certificate.
fn authorities(path: &Path) -> Result<RootCertStore, AgentError> {
    let refuse = |problem: &dyn std::fmt::Display| AgentError::OtlpTls {
        problem: format!("{}: {problem}", path.display()),
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refuse(&error))? {
        let certificate = certificate.map_err(|error| refuse(&error))?;
        store.add(certificate).map_err(|error| refuse(&error))?;
    }
    if store.is_empty() {
        return Err(refuse(&"it has no certificate in PEM form"));
    }
    Ok(store)
}
