use std::net::Ipv4Addr;
use std::process;

use tokio::net::TcpListener;

use super::*;

const REPORT: &str = r#"{"nccl_version":"2.28.9","cuda_runtime_version":13000,"communicators_count":1,"communicators":[
 {"hash":"0xae94423cfbb2ef4a","secondary_hash":"0x1:0x2","size":4,"ranks_count":3,"missing_ranks_count":1,
  "ranks":[{"rank":0,"host":"10.0.0.1","pid":1234,"cuda_dev":0,"nvml_dev":0,
     "status":{"init_state":0,"async_error":0,"finalize_called":false,"destroy_flag":false,"abort_flag":false},
     "collective_counts":{"AllGather":100,"AllReduce":200,"Broadcast":0,"Reduce":0,"ReduceScatter":100}},
   {"rank":1,"host":"10.0.0.1","pid":1235,"status":{"init_state":7,"async_error":2,"abort_flag":true},
     "collective_counts":{"AllReduce":199,"Gather":3,"Send":-1}},
   {"rank":2,"pid":7}],
  "missing_ranks":[{"rank":3,"host":"10.0.0.2"}]},
 {"hash":"none","ranks":[]}],
 "ras":{"collection_time_sec":1.25,"timeouts_count":0}}"#;

/// Serves one connection: answers each line, the last one with a report to the end.
async fn serve(answers: &'static [&'static str], report: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        for answer in answers {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            stream.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        }
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        // The client may have had enough.
        let _ = stream.write_all(&report).await;
    });
    port
}

const POLITE: &[&str] = &["SERVER PROTOCOL 2", "OK", "OK"];

async fn ask(port: u16) -> Result<RasStatus, RasError> {
    status_of(port, Duration::from_secs(5)).await
}

async fn status_of(port: u16, timeout: Duration) -> Result<RasStatus, RasError> {
    status(process::id(), port, timeout).await
}

#[tokio::test]
async fn a_report_is_read() {
    let status = ask(serve(POLITE, REPORT.into()).await).await.unwrap();
    assert_eq!(status.version.as_deref(), Some("2.28.9"));
    let [communicator] = &status.communicators[..] else { panic!("{status:?}") };
    assert_eq!((communicator.hash, communicator.size), (0xae94_423c_fbb2_ef4a, Some(4)));
    assert_eq!(communicator.missing, [3]);
    let [first, second, third] = &communicator.ranks[..] else { panic!("{communicator:?}") };
    assert_eq!((first.rank, first.pid, first.host.as_str()), (0, Some(1234), "10.0.0.1"));
    assert!(first.counts.contains(&(CollectiveKind::AllReduce, 200)));
    assert_eq!(first.counts.len(), 5);
    assert_eq!(second.counts, [(CollectiveKind::AllReduce, 199)]);
    assert_eq!((second.init_state, second.async_error), (7, 2));
    assert!(second.is_aborted && !second.is_finalized);
    assert_eq!(*third, Rank { rank: 2, pid: Some(7), ..Rank::default() });
}

#[tokio::test]
async fn the_stand_ins_job_is_read() {
    use orb8_standins::ras::{Communicator as Job, Rank as Process, Ras};

    let rank = |rank: u32, count: u64| {
        let counts = vec![("AllReduce".into(), count)];
        Process { rank, pid: 100 + rank, counts, ..Process::default() }
    };
    let job = Job { hash: 0xfeed, ranks: vec![rank(0, 9), rank(2, 7)], missing: vec![1] };
    let job = orb8_standins::ras::Job { communicators: vec![job], ..Default::default() };
    let server = Ras::start(job.clone()).unwrap();
    let status = ask(server.port()).await.unwrap();
    let [communicator] = &status.communicators[..] else { panic!("{status:?}") };
    assert_eq!((communicator.hash, communicator.size), (0xfeed, Some(3)));
    assert_eq!(communicator.missing, [1]);
    assert_eq!(communicator.ranks[1].counts, [(CollectiveKind::AllReduce, 7)]);
    server.set(orb8_standins::ras::Job { is_old: true, ..job.clone() });
    assert!(matches!(ask(server.port()).await, Err(RasError::Unsupported(_))));
    server.set(orb8_standins::ras::Job { delay: Duration::from_secs(60), ..job });
    let late = status_of(server.port(), Duration::from_millis(300)).await;
    assert!(matches!(late, Err(RasError::Late)), "a rank does not answer");
}

#[tokio::test]
async fn an_older_nccl_is_told_what_to_do() {
    let refuses: &[&str] = &["SERVER PROTOCOL 2", "OK", "ERROR: unknown command SET"];
    let error = ask(serve(refuses, Vec::new()).await).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RasError::Unsupported(_)), "{text}");
    assert!(text.contains("unknown command") && text.contains("newer NCCL"), "{text}");
    let text = b"NCCL version 2.24.3 compiled with CUDA 12.8\n...".to_vec();
    let error = ask(serve(POLITE, text).await).await.unwrap_err();
    assert!(matches!(&error, RasError::Unsupported(said) if said.contains("2.24.3")), "{error}");
}

#[tokio::test]
async fn what_is_no_ras_is_told() {
    let error = ask(serve(&["HTTP/1.1 400 Bad Request\r"], Vec::new()).await).await.unwrap_err();
    assert!(
        matches!(&error, RasError::Foreign(said) if said == "HTTP/1.1 400 Bad Request"),
        "{error}"
    );
    let error = ask(serve(POLITE, b"{\"communicators\": 5}".to_vec()).await).await.unwrap_err();
    assert!(matches!(error, RasError::Foreign(_)), "{error}");
    let error = ask(serve(POLITE, REPORT.as_bytes()[..200].to_vec()).await).await.unwrap_err();
    assert!(matches!(error, RasError::Foreign(_)), "cut off: {error}");
}

#[tokio::test]
async fn a_report_is_bounded() {
    let endless = vec![b' '; LARGEST as usize + 2];
    let error = ask(serve(POLITE, endless).await).await.unwrap_err();
    assert!(matches!(error, RasError::TooLong), "{error}");
}

#[tokio::test]
async fn who_does_not_answer_is_late_and_who_is_not_there_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let began = Instant::now();
    let error = status(process::id(), port, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, RasError::Late), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "the listener never answers");
    drop(listener);
    let error = ask(port).await.unwrap_err();
    assert!(matches!(&error, RasError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("NCCL_RAS_ENABLE"), "{error}");
    let gone = status(u32::MAX, port, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(gone, RasError::Unreachable { pid: u32::MAX, .. }), "{gone}");
}

#[test]
fn ranks_that_do_not_answer_are_numbers_or_objects() {
    let text =
        br#"{"communicators":[{"hash":"0x1","missing_ranks":[4,{"rank":5,"host":["x",{}]}]}]}"#;
    assert_eq!(report::parse(text).unwrap().communicators[0].missing, [4, 5]);
    let text = br#"{"communicators":[{"hash":"0x1","missing_ranks":["4"]}]}"#;
    assert!(report::parse(text).is_err());
}

/// What serves the port may be anybody's, and want the agent to run out of memory.
#[test]
fn a_report_takes_little_more_room_than_its_text() {
    let many = |what: &str, count: usize| vec![what; count].join(",");
    let text = format!(
        r#"{{"communicators":[{{"hash":"0x1","ranks":[{}],"missing_ranks":[{}]}},{}]}}"#,
        many(r#"{"rank":0,"collective_counts":{"a":1,"b":2,"AllReduce":3,"AllReduce":4}}"#, 70_000),
        many("7", 5_000),
        many(r#"{"hash":"2","ranks":[{"rank":1}]}"#, 5_000),
    );
    let status = report::parse(text.as_bytes()).unwrap();
    assert_eq!(status.communicators.len(), 1024);
    let first = &status.communicators[0];
    assert_eq!((first.ranks.len(), first.missing.len()), (65_536, 1024));
    assert_eq!(first.ranks[0].counts, [(CollectiveKind::AllReduce, 3)]);
    assert!(status.communicators[1].ranks.is_empty(), "there is no room left");
}
