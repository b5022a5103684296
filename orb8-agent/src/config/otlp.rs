//! Where telemetry is sent, and what of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::reader::Reader;
use super::settings::{self, Setting};
use super::values::{duration, number, path, unless_off};
use crate::otlp::{Histograms, LogKind, OtlpConfig, Protocol};

/// Shorter would cost more than it tells, and longer serves no alert.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// Two batches at least; a million records would be gigabytes.
const QUEUE: RangeInclusive<u32> = 1_024..=1_048_576;

/// Headers that are the protocols' own.
const RESERVED: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl Reader<'_> {
    /// Reads every setting of the export, whether it is on or not.
    pub(super) fn otlp(&mut self) -> Option<OtlpConfig> {
        // Some people write credentials into URLs, and headers are made of them: neither is repeated.
        let endpoint = self.secret(&settings::OTLP_ENDPOINT, |text| unless_off(text, endpoint));
        // Others' variables are for others, and no reason to fail, where nothing is sent. An endpoint
        // that is wrong is meant to be one.
        let is_off = matches!(endpoint, Some(None | Some(None)));
        let is_clear =
            matches!(&endpoint, Some(Some(Some(uri))) if uri.scheme_str() == Some("http"));
        let of = |setting: Setting, is_used: bool| Setting {
            fallback_env: setting.fallback_env.filter(|_| is_used),
            ..setting
        };
        let protocol = self.required(&of(settings::OTLP_PROTOCOL, !is_off), protocol);
        let headers = self.secret(&of(settings::OTLP_HEADERS, !is_off), headers);
        let ca = self.optional(&of(settings::OTLP_CA, !is_off && !is_clear), path);
        let resource = self.optional(&of(settings::OTLP_RESOURCE, !is_off), pairs);
        let histograms = self.required(&of(settings::OTLP_HISTOGRAMS, !is_off), histograms);
        let interval = self.required(&settings::OTLP_INTERVAL, duration(INTERVAL, "from 1s to 1h"));
        let logs = self.optional(&settings::OTLP_LOGS, log_kinds);
        let flow_interval =
            self.required(&settings::OTLP_FLOW_INTERVAL, duration(INTERVAL, "from 1s to 1h"));
        let queue_size = self.required(&settings::OTLP_QUEUE_SIZE, number(QUEUE));
        let (endpoint, protocol, ca) = (endpoint?.flatten(), protocol?, ca?);
        if let Some(endpoint) = &endpoint {
            self.check_endpoint(endpoint, protocol, ca.is_some())?;
        }
        Some(OtlpConfig {
            endpoint,
            protocol,
            headers: headers?.unwrap_or_default(),
            ca,
            resource: resource?.unwrap_or_default(),
            interval: interval?,
            histograms: histograms?,
            logs: logs?.unwrap_or_default(),
            flow_interval: flow_interval?,
            queue_size: queue_size?,
        })
    }

    /// Checks what belongs together.
    fn check_endpoint(&mut self, endpoint: &Uri, protocol: Protocol, has_ca: bool) -> Option<()> {
        let mut is_fine = true;
        if protocol == Protocol::Grpc && !matches!(endpoint.path(), "" | "/") {
            let at = self.name_of(&settings::OTLP_ENDPOINT);
            self.errors.push(
                at,
                "must have no path with gRPC: leave it out, or set --otlp-protocol to http/protobuf",
            );
            is_fine = false;
        }
        if has_ca && endpoint.scheme_str() != Some("https") {
            let at = self.name_of(&settings::OTLP_CA);
            self.errors
                .push(at, "needs an https endpoint: --otlp-endpoint says http, in clear text");
            is_fine = false;
        }
        is_fine.then_some(())
    }
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let wrong = || {
        "must be an http or https URL, such as http://collector:4317 (gRPC) or \
         http://collector:4318 (HTTP), or off"
            .to_owned()
    };
    let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(wrong());
    }
    // A port that is none would pass for no port at all.
    let port = authority.as_str().strip_prefix(authority.host());
    if port.is_some_and(|port| !port.is_empty()) && !matches!(authority.port_u16(), Some(1..)) {
        return Err(wrong());
    }
    if authority.as_str().contains('@') {
        return Err("must have no user and password: set --otlp-headers instead".into());
    }
    if uri.query().is_some() {
        return Err("must have no query".into());
    }
    Ok(uri)
}

fn protocol(text: &str) -> Result<Protocol, String> {
    Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.word() == text)
        .ok_or_else(|| "must be grpc or http/protobuf".into())
}

fn histograms(text: &str) -> Result<Histograms, String> {
    match text {
        // The longer words are those of the variable that stands in.
        "explicit" | "explicit_bucket_histogram" => Ok(Histograms::Explicit),
        "exponential" | "base2_exponential_bucket_histogram" => Ok(Histograms::Exponential),
        _ => Err("must be explicit or exponential".into()),
    }
}

fn log_kinds(text: &str) -> Result<Vec<LogKind>, String> {
    let named = |name: &str| LogKind::ALL.into_iter().find(|kind| kind.word() == name);
    let kinds: Option<Vec<LogKind>> = text.split(',').map(|name| named(name.trim())).collect();
    kinds.ok_or_else(|| {
        let words = LogKind::ALL.map(LogKind::word).join(", ");
        format!("must be one or more of {words}, comma-separated")
    })
}

fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (at, (name, value)) in pairs(text)?.into_iter().enumerate() {
        let name = name.parse::<HeaderName>().ok().filter(|name| !RESERVED.contains(name));
        let name = name
            .filter(|name| !name.as_str().starts_with("grpc-") && !name.as_str().ends_with("-bin"))
            .ok_or_else(|| {
                format!("must be headers that one may set, and number {} is none", at + 1)
            })?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| format!("must be printable, and the value of {name} is not"))?;
        // Libraries that log headers leave it out.
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Names and values as `a=b,c=d`, the values percent-encoded. What is wrong is told without the text,
/// which may be a secret.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |entry: &str| {
        let (name, value) = entry.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
    };
    let entries = text.split(',').filter(|entry| !entry.trim().is_empty()).enumerate();
    let wrong =
        |at| format!("must be name=value pairs, comma-separated, and number {} is none", at + 1);
    entries.map(|(at, entry)| pair(entry).ok_or_else(|| wrong(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_without_secrets() {
        for good in ["http://c:4317", "https://c", "http://[::1]:4318/otlp", "http://10.0.0.1:1/"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "c:4317",
            "/v1",
            "ftp://c:1",
            "http://",
            "http://a:b@c:1",
            "http://c:1/?a=b",
            "c",
            "http://c:99999",
            "http://c:0",
            "http://c:",
            "http://[::1]:x",
        ] {
            let problem = endpoint(bad).unwrap_err();
            assert!(problem.starts_with("must ") && !problem.contains("a:b"), "{bad}: {problem}");
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let headers = headers("Authorization=Bearer%20x%2Cy==, x-scope = tenant ,").unwrap();
        assert_eq!(headers["authorization"], "Bearer x,y==");
        assert_eq!(headers["x-scope"], "tenant");
        let shown = format!("{headers:?}");
        assert!(!shown.contains("Bearer") && !shown.contains("tenant"), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_headers_is_told_without_them() {
        for bad in ["secret", "=secret", "a=b,secret", "a b=secret", "host=secret", "te=secret"] {
            let problem = headers(bad).unwrap_err();
            assert!(problem.contains("number") && !problem.contains("secret"), "{bad}: {problem}");
        }
        for bad in ["a=%0Asecret", "grpc-timeout=secret", "a-bin=secret"] {
            let problem = headers(bad).unwrap_err();
            assert!(!problem.contains("secret"), "{bad}: {problem}");
        }
    }

    #[test]
    fn log_kinds_are_named() {
        assert_eq!(log_kinds("flow, alerts"), Ok(vec![LogKind::Flow, LogKind::Alerts]));
        for bad in ["", "flow,", "flows", "FLOW"] {
            assert!(log_kinds(bad).unwrap_err().contains("flow, dns, tcp, gpu, alerts"), "{bad}");
        }
    }
}
