use super::*;
use crate::ctl::kubelet::test_pods::{kept, warning};
use serde_json::json;

fn web() -> KeptPod {
    let mut pod = kept(json!({
        "metadata": {
            "name": "web-n1", "namespace": "shop", "uid": "u-1", "labels": {"app": "web", "tier": "1"},
        },
        "spec": {
            "nodeName": "n1", "terminationGracePeriodSeconds": 5,
            "initContainers": [{"name": "setup", "image": "i:1", "command": ["sh", "-c", "true"]}],
            "containers": [{
                "name": "c", "image": "i:2",
                "ports": [{"containerPort": 80, "name": "http", "hostPort": 8080}, {"containerPort": 53, "protocol": "UDP"}],
                "args": ["--x"],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "m", "optional": true}, "prefix": "P_"}],
                "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "volumeMounts": [{"name": "v", "mountPath": "/etc/app", "readOnly": true, "subPath": "a"}],
            }],
            "volumes": [{"name": "v", "configMap": {"name": "m"}}],
        },
        "status": {
            "phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.0.0.2", "qosClass": "Burstable",
            "startTime": "1970-01-01T00:01:00Z", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "[c]"}],
            "initContainerStatuses": [{
                "name": "setup", "image": "i:1", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": "1970-01-01T00:01:02Z"}},
            }],
            "containerStatuses": [{
                "name": "c", "image": "i:2", "imageID": "sha256:ab", "ready": false, "restartCount": 2,
                "containerID": "berth://c1",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "bye\n"}},
            }],
        },
    }));
    pod.origin = "/m/web.yaml".into();
    pod.events = vec![warning("c", "BackOff", "back-off 20s", 90)];
    pod
}

#[test]
fn the_page_has_everything_in_its_place() {
    let text = page(&web(), 100);
    let expected = "\
Name:             web-n1
Namespace:        shop
UID:              u-1
Origin:           /m/web.yaml
Node:             n1/192.0.2.1
Start Time:       1970-01-01T00:01:00Z
Labels:           app=web
                  tier=1
Annotations:      <none>
Status:           CrashLoopBackOff
Phase:            Running
Grace Period:     5s
IP:               10.0.0.2
IPs:              10.0.0.2
                  fd00::2
Init Containers:
  setup:
    Image:          i:1
    Command:
      sh
      -c
      true
    State:          Terminated
      Reason:       Completed
      Exit Code:    0
      Finished:     1970-01-01T00:01:02Z
    Ready:          True
    Restart Count:  0
Containers:
  c:
    Container ID:   berth://c1
    Image:          i:2
    Image ID:       sha256:ab
    Ports:          80/TCP http on host port 8080, 53/UDP
    Args:
      --x
    State:          Waiting
      Reason:       CrashLoopBackOff
      Message:      back-off 20s
    Last State:     Terminated
      Reason:       Error
      Message:      bye
      Exit Code:    3
    Ready:          False
    Restart Count:  2
    Limits:
      memory: 64Mi
    Requests:
      cpu: 10m
      memory: 32Mi
    Readiness:      tcp-socket :80 delay=0s timeout=1s period=10s #success=1 #failure=3
    Environment from:
      ConfigMap m (optional), prefix P_
    Environment:
      A: 1
      K: <key \"k\" of Secret s>
    Mounts:
      /etc/app from v (ro, path a)
Conditions:
  Type   Status  Reason
  Ready  False   ContainersNotReady: [c]
Volumes:
  v: ConfigMap m
QoS Class:        Burstable
Events:
  Type     Reason   Age  Container  Message
  Warning  BackOff  10s  c          back-off 20s
";
    assert_eq!(text, expected);
}

#[test]
fn a_pod_without_a_status_is_described_all_the_same() {
    let text = page(&kept(json!({"metadata": {"name": "web"}, "spec": {"containers": []}})), 0);
    for line in ["Name:             web", "IP:               <none>", "Events:           <none>"] {
        assert!(text.lines().any(|have| have == line), "{line} in {text}");
    }
}
