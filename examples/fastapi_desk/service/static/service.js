// The service's page: customers, runs, and one run that is kept fresh by the pieces of HTML of /runs/{id}/live.
const $ = (id) => document.getElementById(id);
const NAMES = ["message_end", "tool_decision_pending", "tool_decision_resolved", "agent_end"];
let source;

async function refresh() {
  const response = await fetch("/customers");
  $("login").hidden = response.status !== 401;
  document.querySelector("main").hidden = !response.ok;
  if (!response.ok) return;
  const { user, customers, runs } = await response.json();
  $("user").textContent = user;
  $("customers").replaceChildren(...customers.map(({ id, name, balanceCents }) => {
    const credit = button("Propose a credit", async () => {
      const begun = await fetch(`/customers/${id}/credit`, { method: "POST" });
      if (begun.ok) watch((await begun.json()).id);
      refresh();
    });
    return row(`${id} ${name}`, `${balanceCents} cents`, credit);
  }));
  $("runs").replaceChildren(...runs.map(({ id, status, owner }) => {
    const item = document.createElement("li");
    item.append(button(`${owner}'s run, ${status}`, () => watch(id)));
    return item;
  }));
}

function watch(id) {
  source?.close();
  $("live").replaceChildren();
  source = new EventSource(`/runs/${id}/live`);
  for (const name of NAMES) {
    source.addEventListener(name, ({ data }) => {
      $("live").insertAdjacentHTML("beforeend", data);
      $("answer").hidden = name !== "tool_decision_pending";
      if (name === "agent_end") {
        source.close();
        refresh();
      }
    });
  }
  $("answer").onsubmit = async (submit) => {
    submit.preventDefault();
    const decision = { approved: submit.submitter.value === "true" };
    const answer = await fetch(`/agents/runs/${id}/resume`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ decision }),
    });
    $("answer").querySelector("p").textContent = answer.ok ? "" : (await answer.json()).detail;
  };
}

function button(text, onclick) {
  return Object.assign(document.createElement("button"), { textContent: text, onclick });
}

function row(...cells) {
  const row = document.createElement("tr");
  for (const cell of cells) row.insertCell().append(cell);
  return row;
}

$("login").onsubmit = async (submit) => {
  submit.preventDefault();
  const body = JSON.stringify(Object.fromEntries(new FormData(submit.target)));
  const answer = await fetch("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  $("login").querySelector("p").textContent = answer.ok ? "" : (await answer.json()).detail;
  refresh();
};
$("logout").onclick = async () => {
  await fetch("/logout", { method: "POST" });
  location.reload();
};
refresh();
