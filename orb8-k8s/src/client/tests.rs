use std::path::Path;

use super::*;

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: home
clusters:
- name: one
  cluster: { server: \"https://192.0.2.1:6443\" }
contexts:
- name: home
  context: { cluster: one, user: me }
- name: away
  context: { cluster: elsewhere, user: me }
users:
- name: me
  user: { token: abc }
";

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

async fn by_file(path: &Path, context: Option<&str>) -> Result<Connection, ConnectError> {
    let context = context.map(str::to_owned);
    connect(&Access::Kubeconfig { path: Some(path.to_owned()), context }).await
}

async fn problem(text: &str, context: Option<&str>) -> String {
    by_file(written(text).path(), context).await.unwrap_err().to_string()
}

#[test]
fn a_pod_goes_before_a_kubeconfig_and_nothing_says_why() {
    let pod = Surroundings { in_pod: true, has_token: true, has_kubeconfig: true };
    assert_eq!(pod.choose(), Ok(Access::InCluster));
    let shell = Surroundings { has_kubeconfig: true, ..Default::default() };
    assert_eq!(shell.choose(), Ok(Access::Kubeconfig { path: None, context: None }));
    // Without the token the pod's own environment is of no use.
    let bare = Surroundings { in_pod: true, ..Default::default() };
    assert!(bare.choose().unwrap_err().contains("token"));
    assert!(Surroundings::default().choose().unwrap_err().contains("~/.kube/config"));
}

#[tokio::test]
async fn off_is_off() {
    let Connection::None { reason } = connect(&Access::Off).await.unwrap() else {
        panic!("a client though it is off")
    };
    assert!(reason.contains("turned off"));
}

#[tokio::test]
async fn a_kubeconfig_says_where_it_leads() {
    let file = written(KUBECONFIG);
    let Connection::Found(found) = by_file(file.path(), None).await.unwrap() else {
        panic!("no client")
    };
    assert_eq!(found.server, "https://192.0.2.1:6443");
    assert_eq!(found.source, format!("kubeconfig {} (home)", file.path().display()));
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_said() {
    let missing = by_file(Path::new("/nonexistent/config"), None).await.unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/config"), "{missing}");
    assert!(problem("a: [", None).await.contains("cannot be used"));
    let unknown = problem(KUBECONFIG, Some("work")).await;
    assert!(unknown.contains("no context `work`; it has: home, away"), "{unknown}");
    assert!(problem(KUBECONFIG, Some("away")).await.contains("elsewhere"));
    let none = problem(&KUBECONFIG.replace("current-context: home\n", ""), None).await;
    assert!(none.contains("name one of: home, away"), "{none}");
}

#[tokio::test]
async fn a_proxy_is_refused_rather_than_passed_by() {
    let proxy = KUBECONFIG.replace("server: ", "proxy-url: \"http://192.0.2.9:3128\", server: ");
    let proxy = problem(&proxy, None).await;
    assert!(proxy.contains("the proxy http://192.0.2.9:3128 (`proxy-url`)"), "{proxy}");
    let none = KUBECONFIG.replace("server: ", "proxy-url: \"\", server: ");
    assert!(matches!(by_file(written(&none).path(), None).await, Ok(Connection::Found(_))));
}

#[tokio::test]
async fn unreadable_credentials_are_named() {
    let ca = KUBECONFIG.replace("server: ", "certificate-authority: /nonexistent/ca.crt, server: ");
    assert!(problem(&ca, None).await.contains("/nonexistent/ca.crt"));
    let token = KUBECONFIG.replace("token: abc", "tokenFile: /nonexistent/token");
    let token = problem(&token, None).await;
    assert!(token.contains("credentials") && token.contains("/nonexistent/token"), "{token}");
}

#[tokio::test]
async fn a_plugin_is_run_when_a_client_is_made_and_not_before() {
    let ran = tempfile::tempdir().unwrap();
    let file = ran.path().join("ran");
    let exec = format!(
        "exec: {{ apiVersion: client.authentication.k8s.io/v1, command: touch, \
         interactiveMode: Never, args: [\"{}\"] }}",
        file.display()
    );
    let kubeconfig = written(&KUBECONFIG.replace("token: abc", &exec));
    let path = Some(kubeconfig.path().to_owned());
    let located = locate(&Access::Kubeconfig { path, context: None }).await.unwrap();
    let Located::At(target) = located else { panic!("no settings") };
    assert!(target.runs_plugin() && !target.is_in_cluster());
    assert!(!file.exists(), "it was run");
    let error = target.connect().await.unwrap_err();
    assert!(matches!(&error, ConnectError::Credentials { .. }) && file.exists(), "{error}");
}
