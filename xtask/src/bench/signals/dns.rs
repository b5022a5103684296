//! Nanoseconds per run of the programs of `dns`: what every packet pays, and what a message does.

use anyhow::Result;

use crate::bench::{
    cost::{Case, HEADER, case, measure_case},
    lab::Lab,
    plan::Plan,
    programs::{Hook, Variant},
    report::Table,
    workload::Workload,
};

const CASES: [Case; 8] = {
    use Hook::{Interface, Socket};
    use Workload::{DnsTcp, DnsUdp, TcpBulk, Udp};
    [
        case(Socket, Udp { sockets: 1 }, None),
        case(Socket, TcpBulk, None),
        case(Socket, DnsUdp, None),
        case(Socket, DnsTcp, None),
        case(Interface, Udp { sockets: 1 }, None),
        case(Interface, TcpBulk, None),
        case(Interface, DnsUdp, None),
        case(Interface, DnsTcp, None),
    ]
};

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = format!(
        "{}\n\n**Programs of `dns`**, measured as those of flows above, and alone. The first two kinds \
         of traffic are none of their business; of the others every packet with a message is copied \
         into the ring, queries of 64 bytes and answers of 120 by turns. Over TCP, acknowledgements \
         without data pass as well.",
        plan.machine
    );
    let mut table = Table::new(note, HEADER);
    for case in &CASES {
        measure_case(lab, plan, case, &[Variant::Empty, Variant::Dns], &mut table)?;
    }
    Ok(table)
}
