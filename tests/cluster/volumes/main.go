// Volumes gives every claim of the storage class `local` a folder on this machine, and removes the folder when the
// claim is gone. The folder is open to any user: hostPath volumes know no fsGroup, and pods here run as anyone.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	class       = "local"
	provisioner = "belay.dev/local"
)

type provision struct {
	client kubernetes.Interface
	folder string
}

// claimed makes the folder and the volume that a new claim waits for.
func (p provision) claimed(object any) {
	claim := object.(*core.PersistentVolumeClaim)
	if claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != class || claim.Spec.VolumeName != "" ||
		claim.DeletionTimestamp != nil {
		return
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(p.folder, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		log.Print(err)
		return
	}
	if err := os.Chmod(path, 0o777); err != nil { // whatever the umask took away
		log.Print(err)
		return
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(context.Background(), &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner},
		},
		Spec: core.PersistentVolumeSpec{
			StorageClassName:              class,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			PersistentVolumeSource:        core.PersistentVolumeSource{HostPath: &core.HostPathVolumeSource{Path: path}},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
		},
	}, meta.CreateOptions{})
	if err != nil && !errors.IsAlreadyExists(err) {
		log.Printf("%s/%s: %v", claim.Namespace, claim.Name, err)
	}
}

// released removes a volume whose claim is gone, and what it held.
func (p provision) released(object any) {
	volume := object.(*core.PersistentVolume)
	if volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisioner || volume.Status.Phase != core.VolumeReleased {
		return
	}
	if err := os.RemoveAll(filepath.Join(p.folder, volume.Name)); err != nil {
		log.Print(err)
		return
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(context.Background(), volume.Name, meta.DeleteOptions{})
	if err != nil && !errors.IsNotFound(err) {
		log.Printf("%s: %v", volume.Name, err)
	}
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	folder := flag.String("folder", "", "where the volumes are")
	flag.Parse()

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	p := provision{client, *folder}
	factory := informers.NewSharedInformerFactory(client, 0)
	on := func(informer cache.SharedIndexInformer, handle func(any)) {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    handle,
			UpdateFunc: func(_, object any) { handle(object) },
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	on(factory.Core().V1().PersistentVolumeClaims().Informer(), p.claimed)
	on(factory.Core().V1().PersistentVolumes().Informer(), p.released)
	factory.Start(context.Background().Done())
	select {}
}
