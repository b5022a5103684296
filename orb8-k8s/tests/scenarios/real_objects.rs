//! Objects of a scenario on a real server.

use std::error::Error;

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use super::{Outcome, Tenant};

/// What scenarios create, by which it is removed again; a namespace's objects one by one, since no
/// controller removes them with it.
const CREATED: [&str; 7] = [
    "/api/v1/pods",
    "/api/v1/services",
    "/api/v1/nodes",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
];

impl Tenant {
    /// Creates an object; one that is there gets the status.
    pub(crate) async fn apply(&mut self, mut object: Value) -> Outcome {
        let namespace = text(&object, "/metadata/namespace");
        let wanted = text(&object, "/metadata/uid");
        self.prepare(&mut object);
        let collection = collection(&object)?;
        if !namespace.is_empty() && self.namespaces.insert(namespace.clone()) {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace}});
            put(&self.admin, "/api/v1/namespaces", &namespace).await?;
        }
        let made = put(&self.admin, &collection, &object).await?;
        if !wanted.is_empty() {
            self.uids.insert(wanted, text(&made, "/metadata/uid"));
        }
        if object.get("status").is_some() {
            let mut whole = made;
            whole["status"] = object["status"].clone();
            let path = format!("{collection}/{}/status", text(&object, "/metadata/name"));
            send(&self.admin, Method::PUT, &path, &whole).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete(&self, resource: &str, namespace: &str, name: &str) -> Outcome {
        let base = CREATED.iter().find(|path| path.ends_with(&format!("/{resource}")));
        let base = base.ok_or_else(|| format!("scenarios create no {resource}"))?;
        let path = match namespace {
            "" => format!("{base}/{name}"),
            namespace => namespaced(base, namespace, name),
        };
        remove(&self.admin, &path).await
    }

    /// Removes what the scenario created.
    pub(crate) async fn clean_up(&self) -> Outcome {
        for base in CREATED {
            let listed = match send(&self.admin, Method::GET, base, &Value::Null).await {
                Err(error) if is_code(&*error, 404) => continue,
                listed => listed?,
            };
            for object in listed["items"].as_array().into_iter().flatten() {
                let namespace = text(object, "/metadata/namespace");
                let name = text(object, "/metadata/name");
                match namespace.as_str() {
                    // The server's own.
                    "default" | "kube-system" => {}
                    "" => remove(&self.admin, &format!("{base}/{name}")).await?,
                    namespace => remove(&self.admin, &namespaced(base, namespace, &name)).await?,
                }
            }
        }
        Ok(())
    }

    /// What a real server takes: uids are its own, and specs are whole.
    fn prepare(&self, object: &mut Value) {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("uid");
            metadata.remove("managedFields");
        }
        if let Some(owners) = object.pointer_mut("/metadata/ownerReferences") {
            for owner in owners.as_array_mut().into_iter().flatten() {
                let known = owner["uid"].as_str().and_then(|uid| self.uids.get(uid));
                if let Some(uid) = known {
                    owner["uid"] = json!(uid);
                }
            }
        }
        let labels = json!({"app": "scenario"});
        let pod = json!({"metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.org/app"}]}});
        match object["kind"].as_str() {
            Some("ReplicaSet") => {
                let mut pod = pod;
                pod["spec"]["restartPolicy"] = json!("Always");
                object["spec"] = json!({"selector": {"matchLabels": labels}, "template": pod});
            }
            Some("StatefulSet") => {
                let mut pod = pod;
                pod["spec"]["restartPolicy"] = json!("Always");
                object["spec"] = json!({"serviceName": "none", "selector": {"matchLabels": labels},
                    "template": pod});
            }
            Some("Job") => object["spec"] = json!({"template": {"spec": pod["spec"]}}),
            _ => {}
        }
    }
}

/// Creates an object, or replaces one that is there where that is possible; what there is then.
pub(crate) async fn put(
    client: &Client,
    collection: &str,
    object: &Value,
) -> Result<Value, Box<dyn Error>> {
    let path = format!("{collection}/{}", text(object, "/metadata/name"));
    match send(client, Method::POST, collection, object).await {
        Err(error) if is_code(&*error, 409) => {}
        made => return made,
    }
    let there = send(client, Method::GET, &path, &Value::Null).await?;
    if object.get("rules").is_none() {
        return Ok(there);
    }
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
    send(client, Method::PUT, &path, &object).await
}

async fn remove(client: &Client, path: &str) -> Outcome {
    // A pod on a node would wait for its kubelet.
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    match send(client, Method::DELETE, path, &now).await {
        Err(error) if !is_code(&*error, 404) => Err(error),
        _ => Ok(()),
    }
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, Box<dyn Error>> {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let request = Request::builder().method(method).uri(path);
    let request = request.header(http::header::CONTENT_TYPE, "application/json").body(body)?;
    Ok(client.request(request).await?)
}

fn is_code(error: &(dyn Error + 'static), code: u16) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == code)
}

/// Where objects of its kind and namespace are created.
fn collection(object: &Value) -> Result<String, Box<dyn Error>> {
    let kind = text(object, "/kind").to_lowercase();
    let plural = format!("/{kind}s");
    let base = CREATED.iter().find(|path| path.ends_with(&plural));
    let base = base.ok_or_else(|| format!("scenarios create no {kind}"))?;
    Ok(match text(object, "/metadata/namespace").as_str() {
        "" => (*base).to_owned(),
        namespace => namespaced(base, namespace, "").trim_end_matches('/').to_owned(),
    })
}

/// The path of an object in a namespace, from that of its resource.
fn namespaced(base: &str, namespace: &str, name: &str) -> String {
    let (version, plural) = base.rsplit_once('/').unwrap_or_default();
    format!("{version}/namespaces/{namespace}/{plural}/{name}")
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
