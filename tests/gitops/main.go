// Says of each object on standard input, one JSON a line, what GitOps tools would, each by its own code: Flux by its
// kstatus; Argo CD by the argocd-cm that the argument names, which it reads as it reads its own.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	argolua "github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"github.com/argoproj/gitops-engine/pkg/health"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

// verdict is what is said of one object.
type verdict struct {
	Kstatus       status.Status           `json:"kstatus"`
	Message       string                  `json:"message"`
	Health        health.HealthStatusCode `json:"health"`
	HealthMessage string                  `json:"healthMessage"`
	// Actions has what the object becomes by each action that is offered; null: it is shown, but disabled.
	Actions map[string]*unstructured.Unstructured `json:"actions"`
}

type overrides = map[string]v1alpha1.ResourceOverride

func main() {
	logrus.SetOutput(io.Discard)
	if err := judge(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(argocdCM string, in io.Reader, out io.Writer) error {
	customizations, err := read(argocdCM)
	if err != nil {
		return fmt.Errorf("%s: %w", argocdCM, err)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 4<<20)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		said, err := say(object, customizations)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if err := answers.Encode(said); err != nil {
			return err
		}
	}
	return lines.Err()
}

// read gives Argo CD's settings what it would find in its namespace.
func read(argocdCM string) (overrides, error) {
	text, err := os.ReadFile(argocdCM)
	if err != nil {
		return nil, err
	}
	var configMap corev1.ConfigMap
	if err := yaml.UnmarshalStrict(text, &configMap); err != nil {
		return nil, err
	}
	configMap.Namespace = "argocd"
	manager := settings.NewSettingsManager(context.Background(), fake.NewClientset(&configMap), configMap.Namespace)
	return manager.GetResourceOverrides()
}

func say(object *unstructured.Unstructured, customizations overrides) (*verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	told, err := health.GetResourceHealth(object, argolua.ResourceHealthOverrides(customizations))
	if err != nil {
		return nil, err
	}
	if told == nil {
		return nil, fmt.Errorf("Argo CD has no health for this kind")
	}
	actions, err := act(object, argolua.VM{ResourceOverrides: customizations})
	if err != nil {
		return nil, err
	}
	return &verdict{result.Status, result.Message, told.Status, told.Message, actions}, nil
}

// act tries every action that is offered, each on the object as it is.
func act(object *unstructured.Unstructured, vm argolua.VM) (map[string]*unstructured.Unstructured, error) {
	discovery, err := vm.GetResourceActionDiscovery(object)
	if err != nil {
		return nil, err
	}
	if len(discovery) == 0 {
		return nil, nil
	}
	offered, err := vm.ExecuteResourceActionDiscovery(object, discovery)
	if err != nil {
		return nil, err
	}
	actions := map[string]*unstructured.Unstructured{}
	for _, action := range offered {
		actions[action.Name] = nil
		if action.Disabled {
			continue
		}
		definition, err := vm.GetResourceAction(object, action.Name)
		if err != nil {
			return nil, err
		}
		changed, err := vm.ExecuteResourceAction(object, definition.ActionLua, nil)
		if err != nil {
			return nil, fmt.Errorf("action %s: %w", action.Name, err)
		}
		actions[action.Name] = changed[0].UnstructuredObj
	}
	return actions, nil
}
