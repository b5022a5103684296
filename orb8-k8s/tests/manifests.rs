//! What `deploy/`, `e2e/` and the Dockerfile say, held against Kubernetes' schemas and against what the
//! code asks for. Nothing here needs a cluster or Docker.

mod manifests {
    mod daemonset;
    mod docs;
    mod documents;
    mod e2e;
    mod images;
    mod kustomize;
    mod rbac;
    mod schema;
}
