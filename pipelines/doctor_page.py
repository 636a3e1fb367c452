"""docs/doctor.md: what `radiffuse doctor` looks at, from the checks themselves, and what its report means."""

from radiffuse.doctor.checks import CHECKS
from radiffuse.doctor.store_checks import REFUSED_SECONDS, WARN_SECONDS

INTRODUCTION = """# Is this cluster ready?

`radiffuse doctor` looks at everything that a training job needs, from the API server to the bucket, and says line by
line how it stands; below what is not as it should be stands what to do.

```sh
radiffuse doctor --namespace radiffuse                                      # for the default job, two nodes of 32 GPUs
radiffuse doctor --namespace radiffuse --job 8x8 --set-job queue=research   # for the job that you mean to run
radiffuse doctor --namespace radiffuse --job job.yaml --json                # for a program
```

It takes a job as `radiffuse train --job` does ([jobs.md](jobs.md)): whether the gang fits, the queue exists and the
secrets have their entries depends on it. The store is the one that `MINIO_*` names here ([storage.md](storage.md)).
In the cluster, `helm test` runs the same command in a pod, under the launcher's account and with the chart's own job
document.

## What it prints

In a cluster whose namespace lacks the store's secret:

```text
"""
EXAMPLE = """\
ok       kubeconfig         https://10.199.0.1:6443, namespace doctor
ok       API server         Kubernetes v1.35.4
ok       kinds              pytorchjobs.kubeflow.org v1
ok       operator           kubeflow/training-operator has a pod that is ready
ok       certificate        valid until 2036-11-20
ok       init container     kubeflow/training-operator has a template of its own
ok       namespace          doctor exists
ok       pod security       restricted is enforced, which the job's pods keep to
ok       permissions        system:serviceaccount:doctor:launcher may do all that a launcher does
FAILED   secrets            no secret 'radiffuse-store' in namespace doctor
                            -> kubectl --namespace doctor create secret generic radiffuse-store \
--from-literal=MINIO_ACCESS_KEY=... --from-literal=MINIO_SECRET_KEY=... --from-literal=MINIO_ENDPOINT=...
ok       image              \
radiffuse.test/train@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
ok       dry run            the API and its webhooks accept a PyTorchJob of 2 nodes
ok       service account    trainer exists
ok       runtime class      doctor-runtime exists
ok       priority class     doctor-priority exists
ok       quota              nothing that the namespace limits is less than the job needs
skipped  pods               this account may not create pods, nor need a launcher: the operator makes them
ok       GPUs               2 nodes of 32 nvidia.com/gpu
ok       gang               2 nodes hold a pod of cpu 64, memory 512Gi, nvidia.com/gpu 32; the job needs 2
ok       queue              team-a exists
ok       queue integration  Kueue manages kubeflow.org/pytorchjob
ok       workload priority  doctor-urgent exists
ok       store settings     127.0.0.1:11769 without TLS, with keys from the environment
ok       store              127.0.0.1:11769 answers
ok       store clock        within a minute of this one's
ok       store buckets      all there
ok       store objects      put, got and deleted one in each bucket
skipped  store of the pods  not looked at, since secrets failed
ok       KFP                KFP 2.17.0
ok       KFP account        system:serviceaccount:doctor:pipeline-runner may do all that a launcher does
ok       PodMonitor         radiffuse
ok       Prometheus         doctor/main picks radiffuse

29 ok, 0 warnings, 1 failed, 2 skipped: not ready
"""
"""As it was printed."""
VERDICTS = """```

| verdict | means |
|---|---|
| `ok` | it is as it should be, or the job does not ask for it |
| `warning` | training works; this should be better all the same |
| `FAILED` | training does not work, or not this job |
| `skipped` | nothing is said: the account may not look, a check that this builds on failed, or it need not be there |

Below what the account may not look at stands the right that it lacks.

The exit code is 0 when nothing failed, 1 when something did, and 2 for an option or a job document that is wrong. On a
terminal the verdicts are coloured. `--skip NAME`, repeated, leaves checks out, and with them those that build on them.
`--create-buckets` makes the buckets that the store lacks, as `helm test` does.

Otherwise nothing is changed: jobs and pods are sent as dry runs, which the API server and every webhook check and
nobody keeps. In each bucket one object of a few bytes is written below `radiffuse-doctor/`, read back and deleted. No
check waits longer than half a minute, and none stops another. No value of a secret is ever printed.

## What it looks at

| check | is `ok` when | builds on |
|---|---|---|
"""
REMARKS = f"""
- **Nodes** are judged by what they could hold if they were empty: GPUs, CPU, memory, labels and taints. What other pods
  use now is the scheduler's affair. Where the gang does not fit, the fix names the largest job of such processes that
  does. Nodes that an autoscaler makes only when they are asked for are not seen: `--skip GPUs`.
- **Clocks**: S3 signs requests with their time. More than {WARN_SECONDS} s apart is a warning; past
  {REFUSED_SECONDS // 60} minutes the store refuses.
- **The operator** runs where its webhook has a pod that is ready. To an account that may not look there, the dry run
  shows it: no job passes it while the webhook does not answer.
- **KFP and Prometheus** are not needed to train. From outside the cluster KFP is looked at when `--kfp-endpoint` names
  it, for instance after `kubectl --namespace kubeflow port-forward service/ml-pipeline 8888`.

## What it may look at

With the rights of a launcher alone it runs, and skips what lies outside: nodes, webhooks, quotas and the like. The
optional rights change nothing; [permissions.md](permissions.md) lists them, and the chart grants those in the namespace
by `rbac.doctorRole`, those beyond it by `rbac.doctorClusterRole`.

## For programs

`--json` prints one document. Names of checks are stable; texts are for people.

| field | what |
|---|---|
| `server`, `namespace` | where it looked; null where no credentials were found |
| `job` | the job as it was given |
| `is_ready` | whether nothing failed |
| `counts` | how many checks have each verdict: `ok`, `warning`, `failed`, `skipped` |
| `checks` | in order: `name`, `verdict`, `finding`, and `fix`, which is null where there is nothing to do |

```sh
jq -r '.checks[] | select(.verdict == "failed") | .name + ": " + .fix' <(radiffuse doctor --json)
```

Written by `make generate`. Each check is tested against a real API server, with one thing broken at a time:
`tests/cluster/control_plane/test_doctor.py`.
"""


def doctor_page() -> str:
    """The page, in Markdown."""
    rows = [f"| {check.name} | {check.about} | {', '.join(check.needs) or 'nothing'} |" for check in CHECKS]
    return INTRODUCTION + EXAMPLE + VERDICTS + "\n".join(rows) + "\n" + REMARKS
