//! Which fields of a flow a client wants.

use std::collections::{BTreeMap, BTreeSet};

use orb8_proto::hubble::flow::{Endpoint, Flow};
use prost_types::FieldMask;

/// Paths in a mask at most: there are not a hundred fields.
const MAX_PATHS: usize = 1_000;

/// Fields by name, with those of an endpoint below them; nothing for all of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask(BTreeMap<String, BTreeSet<String>>);

/// Empties the fields that are not in a mask.
macro_rules! keep {
    ($mask:ident, $message:ident: $($name:literal = $field:ident),* $(,)?) => {
        $(if !$mask($name) {
            $message.$field = Default::default();
        })*
    };
}

impl Mask {
    /// Reads a mask; `None` for what wants everything. A field that orb8 does not fill may be in it, and
    /// of a field below a field all of that is sent, unless it is an endpoint.
    ///
    /// # Errors
    ///
    /// A path that is none.
    pub(super) fn new(mask: Option<&FieldMask>) -> Result<Option<Self>, String> {
        let paths = mask.map(|mask| &mask.paths[..]).unwrap_or_default();
        if paths.is_empty() {
            return Ok(None);
        }
        if paths.len() > MAX_PATHS {
            return Err(format!("field_mask: at most {MAX_PATHS} paths"));
        }
        let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut whole = BTreeSet::new();
        for path in paths {
            let (field, rest) = path.split_once('.').unwrap_or((path, ""));
            let below = rest.split('.').next().unwrap_or_default();
            let is_name = |name: &str| {
                let mut bytes = name.bytes();
                !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            if !path.split('.').all(is_name) {
                return Err(format!("field_mask: `{path}` is no path like `source.pod_name`"));
            }
            let known = fields.entry(field.to_owned()).or_default();
            if below.is_empty() {
                whole.insert(field);
            } else {
                known.insert(below.to_owned());
            }
        }
        for field in whole {
            fields.insert(field.to_owned(), BTreeSet::new());
        }
        Ok(Some(Self(fields)))
    }

    /// Empties what is not wanted.
    pub(super) fn apply(&self, flow: &mut Flow) {
        let wants = |name: &str| self.0.contains_key(name);
        #[expect(deprecated, reason = "older clients read these")]
        {
            keep!(wants, flow:
                "time" = time, "uuid" = uuid, "emitter" = emitter, "verdict" = verdict,
                "drop_reason" = drop_reason, "IP" = ip, "l4" = l4, "source" = source,
                "destination" = destination, "Type" = r#type, "node_name" = node_name,
                "source_names" = source_names, "destination_names" = destination_names,
                "l7" = l7, "reply" = reply, "event_type" = event_type,
                "source_service" = source_service, "destination_service" = destination_service,
                "traffic_direction" = traffic_direction,
                "trace_observation_point" = trace_observation_point,
                "drop_reason_desc" = drop_reason_desc, "is_reply" = is_reply,
                "interface" = interface, "socket_cookie" = socket_cookie,
                "cgroup_id" = cgroup_id, "Summary" = summary,
            );
        }
        self.keep_end("source", flow.source.as_mut());
        self.keep_end("destination", flow.destination.as_mut());
    }

    fn keep_end(&self, field: &str, endpoint: Option<&mut Endpoint>) {
        let below = self.0.get(field).filter(|below| !below.is_empty());
        let (Some(below), Some(endpoint)) = (below, endpoint) else { return };
        let wants = |name: &str| below.contains(name);
        keep!(wants, endpoint:
            "identity" = identity, "cluster_name" = cluster_name, "namespace" = namespace,
            "labels" = labels, "pod_name" = pod_name, "workloads" = workloads,
        );
    }
}

#[cfg(test)]
mod tests {
    use orb8_proto::hubble::flow::{Ip, Layer4};

    use super::*;

    fn mask(paths: &[&str]) -> Result<Option<Mask>, String> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Mask::new(Some(&FieldMask { paths }))
    }

    #[expect(deprecated, reason = "older clients read these")]
    fn full() -> Flow {
        let end = Endpoint {
            identity: 2,
            namespace: "shop".into(),
            pod_name: "web".into(),
            labels: vec!["k8s:a=b".into()],
            ..Endpoint::default()
        };
        Flow {
            uuid: "u".into(),
            verdict: 1,
            ip: Some(Ip::default()),
            l4: Some(Layer4::default()),
            source: Some(end.clone()),
            destination: Some(end),
            r#type: 1,
            summary: "s".into(),
            is_reply: Some(true),
            ..Flow::default()
        }
    }

    #[test]
    #[expect(deprecated, reason = "older clients read these")]
    fn what_is_not_wanted_is_empty() {
        let mut flow = full();
        let paths =
            ["IP", "Type", "Summary", "source.identity", "source.pod_name", "l4.TCP", "ethernet"];
        mask(&paths).unwrap().unwrap().apply(&mut flow);
        let source = Endpoint { identity: 2, pod_name: "web".into(), ..Endpoint::default() };
        let expected = Flow {
            ip: full().ip,
            l4: full().l4,
            r#type: 1,
            summary: "s".into(),
            source: Some(source),
            ..Flow::default()
        };
        assert_eq!(flow, expected);

        let mut flow = full();
        mask(&["source.identity", "source", "destination"]).unwrap().unwrap().apply(&mut flow);
        assert_eq!((flow.source, flow.destination), (full().source, full().destination));
    }

    #[test]
    fn nothing_means_everything_and_nonsense_is_named() {
        assert_eq!(Mask::new(None), Ok(None));
        assert_eq!(mask(&[]), Ok(None));
        for bad in ["", ".", "source.", ".source", "so urce", "source..x"] {
            assert!(mask(&[bad]).unwrap_err().contains("is no path"), "{bad}");
        }
        let many = vec!["time"; MAX_PATHS + 1];
        assert!(mask(&many).is_err());
    }
}
