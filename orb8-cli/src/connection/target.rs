//! Where an agent is, and how it is spoken to.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::args::GlobalArgs;
use crate::error::CliError;

/// The agent's port where none is given.
const DEFAULT_PORT: u16 = 9090;

/// Where an agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `host:port`, `http://…` or `https://…`; `tls` is `None` where the flags decide.
    Tcp { authority: String, tls: Option<bool> },
    /// A socket of this machine.
    Unix(PathBuf),
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "give HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:/PATH".to_owned();
        let unix = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        if let Some(path) = unix.or_else(|| text.starts_with('/').then_some(text)) {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some(_) => return Err(wrong()),
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let rest = match rest.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => rest.to_owned(),
        };
        let uri = format!("http://{rest}/").parse::<Uri>().map_err(|_| wrong())?;
        let colon = rest.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let bad_port = colon && uri.port_u16().is_none();
        if uri.path() != "/" || uri.host().is_none_or(str::is_empty) || bad_port {
            return Err(wrong());
        }
        let authority = match uri.port_u16() {
            Some(_) => rest,
            None => format!("{rest}:{DEFAULT_PORT}"),
        };
        Ok(Self::Tcp { authority, tls })
    }

    pub(super) fn speaks_tls(&self, global: &GlobalArgs) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp { tls, .. } => {
                tls.unwrap_or(global.tls_ca.is_some() || global.tls_cert.is_some())
            }
        }
    }

    /// Whether it is not this machine's loopback.
    pub(super) fn is_elsewhere(&self) -> bool {
        let Self::Tcp { authority, .. } = self else {
            return false;
        };
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    pub(super) fn endpoint(&self, global: &GlobalArgs) -> Result<Endpoint, CliError> {
        let wants_tls = global.tls_ca.is_some() || global.tls_cert.is_some();
        let wrong = |error: tonic::transport::Error| CliError::Usage(format!("{self}: {error}"));
        match self {
            Self::Unix(path) => {
                Endpoint::from_shared(format!("unix://{}", path.display())).map_err(wrong)
            }
            Self::Tcp { tls: Some(false), .. } if wants_tls => Err(CliError::Usage(
                "--tls-ca and --tls-cert need an https:// agent, this one is http://".to_owned(),
            )),
            Self::Tcp { authority, .. } => {
                let tls = self.speaks_tls(global);
                let scheme = if tls { "https" } else { "http" };
                let endpoint =
                    Endpoint::from_shared(format!("{scheme}://{authority}")).map_err(wrong)?;
                if tls {
                    endpoint.tls_config(tls_config(global)?).map_err(wrong)
                } else {
                    Ok(endpoint)
                }
            }
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { authority, tls: None } => f.write_str(authority),
            Self::Tcp { authority, tls: Some(false) } => write!(f, "http://{authority}"),
            Self::Tcp { authority, tls: Some(true) } => write!(f, "https://{authority}"),
        }
    }
}

fn tls_config(global: &GlobalArgs) -> Result<ClientTlsConfig, CliError> {
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map_err(|error| CliError::Usage(format!("cannot read {}: {error}", path.display())))
    };
    let Some(authority) = &global.tls_ca else {
        return Err(CliError::Usage(
            "a TLS agent needs --tls-ca, the authority of its certificate".to_owned(),
        ));
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority)?));
    if let (Some(certificate), Some(key)) = (&global.tls_cert, &global.tls_key) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &global.tls_server_name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_several_forms() {
        let tcp = |authority: &str, tls| Target::Tcp { authority: authority.to_owned(), tls };
        for (text, expected) in [
            ("node-1:9090", tcp("node-1:9090", None)),
            ("node-1", tcp("node-1:9090", None)),
            ("10.0.0.1:19090", tcp("10.0.0.1:19090", None)),
            ("[::1]:9090", tcp("[::1]:9090", None)),
            ("::1", tcp("[::1]:9090", None)),
            ("http://node-1:9090/", tcp("node-1:9090", Some(false))),
            ("https://node-1:9090", tcp("node-1:9090", Some(true))),
            ("unix:/run/a.sock", Target::Unix("/run/a.sock".into())),
            ("unix:///run/a.sock", Target::Unix("/run/a.sock".into())),
            ("/run/a.sock", Target::Unix("/run/a.sock".into())),
        ] {
            assert_eq!(Target::parse(text), Ok(expected), "{text}");
        }
        for text in
            ["", "ftp://a", "unix:a.sock", "http://", "a b", "node-1:", "node-1/path", "a:b"]
        {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
