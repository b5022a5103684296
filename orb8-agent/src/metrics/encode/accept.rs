//! `Accept` and `Accept-Encoding`, as scrapers send them.

use super::Format;

/// Weight of what has none.
const FULL: f32 = 1.0;

/// Returns the format with the largest weight, of equals the first; text where none is accepted, since a
/// page in the wrong format is easier to understand than none.
pub(super) fn format<'a>(headers: impl Iterator<Item = &'a str>) -> Format {
    let mut best: Option<(Format, f32)> = None;
    for range in headers.flat_map(|header| header.split(',')).map(Range::parse) {
        if let Some(format) = range.format()
            && range.weight > best.map_or(0.0, |(_, weight)| weight)
        {
            best = Some((format, range.weight));
        }
    }
    best.map_or(Format::Text, |(format, _)| format)
}

/// Whether a client takes gzip, by its `Accept-Encoding` headers.
#[must_use]
pub fn accepts_gzip<'a>(headers: impl Iterator<Item = &'a str>) -> bool {
    let ranges: Vec<Range<'_>> =
        headers.flat_map(|header| header.split(',')).map(Range::parse).collect();
    let named = |name: &str| ranges.iter().find(|range| range.name.eq_ignore_ascii_case(name));
    named("gzip").or_else(|| named("*")).is_some_and(|range| range.weight > 0.0)
}

/// One thing that a client takes.
struct Range<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    weight: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let pair = |part: &'a str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.trim(), value.trim().trim_matches('"'))
        };
        let parameters: Vec<_> = parts.map(pair).collect();
        let weight = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("q"));
        // What cannot be read is not wanted.
        let weight = weight.map_or(FULL, |(_, weight)| weight.parse().unwrap_or(0.0));
        Self { name, parameters, weight }
    }

    fn format(&self) -> Option<Format> {
        let name = self.name.to_ascii_lowercase();
        let is = |parameter: &str, wanted: &str| {
            let found = self.parameters.iter().find(|(name, _)| *name == parameter);
            found.map(|(_, value)| *value == wanted)
        };
        let is_or_open = |parameter, wanted| is(parameter, wanted).unwrap_or(true);
        let (format, is_ours) = match name.as_str() {
            "application/vnd.google.protobuf" => (
                Format::Protobuf,
                is("proto", "io.prometheus.client.MetricFamily") == Some(true)
                    && is("encoding", "delimited") == Some(true),
            ),
            "application/openmetrics-text" => (Format::OpenMetrics, is_or_open("version", "1.0.0")),
            "text/plain" => (Format::Text, is_or_open("version", "0.0.4")),
            "text/*" | "*/*" => (Format::Text, true),
            _ => return None,
        };
        is_ours.then_some(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(header: &str) -> Format {
        format([header].into_iter())
    }

    const PROTOBUF: &str = "application/vnd.google.protobuf;\
                            proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn what_scrapers_send() {
        // Prometheus 2.42, without and with native histograms; 3.x; VictoriaMetrics; curl; a browser.
        let classic = "application/openmetrics-text;version=1.0.0,\
                       application/openmetrics-text;version=0.0.1;q=0.75,\
                       text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(accepted(classic), Format::OpenMetrics);
        let native = format!(
            "{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        );
        assert_eq!(accepted(&native), Format::Protobuf);
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                     text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(accepted(three), Format::OpenMetrics);
        assert_eq!(accepted("text/plain;version=0.0.4;q=1,*/*;q=0.1"), Format::Text);
        assert_eq!(accepted("*/*"), Format::Text);
        assert_eq!(
            accepted("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            Format::Text
        );
        assert_eq!(format(std::iter::empty()), Format::Text);
    }

    #[test]
    fn weights_decide_and_of_equals_the_first() {
        let both = format!("{PROTOBUF};q=0.3, application/openmetrics-text; q=0.4");
        assert_eq!(accepted(&both), Format::OpenMetrics);
        assert_eq!(accepted("text/plain, application/openmetrics-text"), Format::Text);
        assert_eq!(accepted("application/openmetrics-text, text/plain"), Format::OpenMetrics);
        assert_eq!(accepted("application/openmetrics-text;q=0, text/plain;q=0.1"), Format::Text);
        assert_eq!(accepted("application/openmetrics-text;q=x"), Format::Text);
        let two = ["text/plain;q=0.1", "Application/OpenMetrics-Text; Version=\"1.0.0\""];
        assert_eq!(format(two.into_iter()), Format::OpenMetrics, "two headers");
    }

    #[test]
    fn what_is_not_spoken_is_not_promised() {
        assert_eq!(accepted("application/openmetrics-text;version=2.0.0"), Format::Text);
        assert_eq!(accepted("application/vnd.google.protobuf"), Format::Text);
        assert_eq!(accepted("application/json"), Format::Text);
        assert_eq!(accepted(",,;;q=;="), Format::Text);
    }

    #[test]
    fn gzip_is_asked_for() {
        let gzip = |header: &str| accepts_gzip([header].into_iter());
        assert!(gzip("gzip") && gzip("br;q=1, GZIP;q=0.5") && gzip("*"));
        assert!(!gzip("") && !gzip("identity") && !gzip("gzip;q=0, *") && !gzip("x-gzip"));
    }
}
