//! What `deploy/`, `e2e/` and the Dockerfile say, held against Kubernetes' schemas and against what the
//! code asks for. Nothing here needs a cluster or Docker.

mod manifests {
    mod chart;
    mod crds;
    mod daemonset;
    mod docs;
    mod documents;
    mod e2e;
    mod helm;
    mod images;
    mod kustomize;
    mod objects;
    mod overlays;
    mod rbac;
    mod schema;
}
